// Package patience decides when a call that usually does not wait may be made by
// somebody who must not wait.
package patience

import (
	"sync/atomic"
	"time"
)

const (
	// slow is what a call that does not wait hardly ever takes. Losing the
	// processor to another thread looks slow too, and must not end the
	// patience when it happens now and then.
	slow = int64(time.Millisecond)
	// share: slow calls may take one part in so many of the time.
	share = 3
	// burst is how much time slow calls may take before that.
	burst = int64(25 * time.Millisecond)
)

// Patience decides whether a call that usually does not wait, but can, is
// made by a goroutine that must not wait. It allows calls as long as slow
// ones take less than a third of the time, which a thread that now and then
// loses its processor does not reach; after a call of 100 ms it refuses for
// about 125 ms. Times are nanoseconds on one clock. The zero value is patient.
type Patience struct {
	// paid is when the slow calls so far are paid for, at the rate of one
	// nanosecond for share nanoseconds.
	paid atomic.Int64
}

// Allows reports whether the call may be made now.
func (p *Patience) Allows(now int64) bool {
	return p.paid.Load()-now < burst*share
}

// Charge notes a call that took from begin to end.
func (p *Patience) Charge(begin, end int64) {
	if end-begin < slow {
		return
	}
	for {
		old := p.paid.Load()
		if p.paid.CompareAndSwap(old, max(old, begin)+(end-begin)*share) {
			return
		}
	}
}
