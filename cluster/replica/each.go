package replica

import (
	"sync"
	"sync/atomic"
)

// each calls f for 0 to n-1, in this goroutine and up to limit-1 others, and returns the
// first error by number. After an error nothing new begins.
func each(n, limit int, f func(i int) error) error {
	if n == 1 || limit <= 1 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	var next atomic.Int64
	var stop atomic.Bool
	errs := make([]error, n)
	work := func() {
		for !stop.Load() {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if errs[i] = f(i); errs[i] != nil {
				stop.Store(true)
			}
		}
	}
	var others sync.WaitGroup
	for range min(n, limit) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
