package replica

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// All are done, never more than so many at a time, and the first error is returned.
func TestEach(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 7, 100} {
		for _, limit := range []int{0, 1, 3, 200} {
			synctest.Test(t, func(t *testing.T) {
				var now, most, done atomic.Int64
				err := each(n, limit, func(i int) error {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(time.Second)
					now.Add(-1)
					done.Add(1)
					return nil
				})
				if err != nil || int(done.Load()) != n || int(most.Load()) > max(1, limit) {
					t.Errorf("%d of %d were done, %d of %d at a time: %v", done.Load(), n, most.Load(), limit, err)
				}
			})
			bad := errors.New("bad")
			calls := atomic.Int64{}
			err := each(n, limit, func(i int) error {
				calls.Add(1)
				if i == 2 {
					return bad
				}
				return nil
			})
			if (n > 2) != errors.Is(err, bad) || int(calls.Load()) > n {
				t.Errorf("%d at %d a time: %v after %d calls", n, limit, err, calls.Load())
			}
		}
	}
}
