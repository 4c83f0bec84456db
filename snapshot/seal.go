package snapshot

import (
	"context"
	"sync/atomic"
	"time"
)

// A sealer sees to it that data which are written again and again come to rest.
//
// What a store may still have to prove, because the commit that it belongs to is
// the last that is known to be durable, cannot be written in place: it gets
// another place with each write. Two commits end that, which nobody waits for.
type sealer struct {
	// moved counts chunks that were written to another place although no other
	// view has theirs.
	moved atomic.Int64
	busy  atomic.Bool
	// next is when it may be done again, in nanoseconds since began.
	began time.Time
	next  atomic.Int64
}

const (
	// sealAfter is how many chunks make it worth while, sealPause how many
	// times as long as it took the devices are then left to others.
	sealAfter = 64
	sealPause = 20
)

// moved is called when n chunks got another place in vain.
func (s *Set) moved(n int64) {
	w := &s.sealer
	if w.moved.Add(n) < sealAfter || s.o.Manual || int64(time.Since(w.began)) < w.next.Load() || !w.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer w.busy.Store(false)
		start := time.Now()
		s.seal(context.Background())
		w.moved.Store(0)
		w.next.Store(int64(time.Since(w.began) + sealPause*time.Since(start)))
	}()
}

// seal makes two commits. Whoever relies on them will hear if they fail.
func (s *Set) seal(ctx context.Context) {
	if s.enter(ctx, &s.reads, 0) != nil {
		return
	}
	defer s.leave(&s.reads)
	if s.toStore.Wait(ctx) == nil {
		s.toStore.Dirty()
		_ = s.toStore.Wait(ctx)
	}
}
