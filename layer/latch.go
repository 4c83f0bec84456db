package layer

import (
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// A latch remembers that a layer has been closed, for the sake of requests
// that never reach the device under it.
type latch struct{ closed atomic.Bool }

func (l *latch) shut() { l.closed.Store(true) }

// refuse returns err, the reason against a request, or the better one that
// the layer is closed.
func (l *latch) refuse(err error) error {
	if l.closed.Load() {
		return block.ErrClosed
	}
	return err
}
