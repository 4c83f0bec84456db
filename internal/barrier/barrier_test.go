package barrier

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Those who change something while a flush is under way share the next one.
func TestBarrierIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b Barrier
		var flushes atomic.Int64
		b.Init(func(context.Context) error {
			flushes.Add(1)
			time.Sleep(time.Millisecond)
			return nil
		})
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				n := b.Dirty()
				if err := b.WaitFor(t.Context(), n); err != nil || !b.Sealed(n) {
					t.Errorf("change %d is not durable: %v", n, err)
				}
			})
		}
		all.Wait()
		if n := flushes.Load(); n > 2 {
			t.Errorf("32 changes took %d flushes, expected at most 2", n)
		}
		if err := b.Wait(t.Context()); err != nil || flushes.Load() > 2 {
			t.Errorf("a flush of nothing: %v", err)
		}
	})
}

// Those who wait for a flush that fails try themselves, and only they who fail
// as well are told.
func TestBarrierFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b Barrier
		var flushes atomic.Int64
		broken := errors.New("broken")
		b.Init(func(context.Context) error {
			time.Sleep(time.Millisecond)
			if flushes.Add(1) == 1 {
				return broken
			}
			return nil
		})
		var failed atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				n := b.Dirty()
				switch err := b.WaitFor(t.Context(), n); {
				case errors.Is(err, broken):
					failed.Add(1)
				case err != nil || !b.Sealed(n):
					t.Errorf("change %d: %v", n, err)
				}
			})
		}
		all.Wait()
		if failed.Load() != 1 || flushes.Load() > 2 || !b.Clean() {
			t.Errorf("%d have failed in %d flushes, expected 1 in 2", failed.Load(), flushes.Load())
		}
	})
}
