package snapshot

import (
	"sync"
	"testing"
)

// A function is called when the readers that were there have left, and does not
// wait for those that came later.
func TestPins(t *testing.T) {
	t.Parallel()
	var p pins
	called := 0
	p.retire(func() { called++ })
	if called != 1 {
		t.Error("without readers it is not called at once")
	}
	a := p.enter()
	p.retire(func() { called++ })
	b := p.enter()
	if called != 1 {
		t.Error("it is called while a reader is there")
	}
	p.leave(a)
	p.leave(b)
	if called != 2 {
		t.Error("it is not called when all have left")
	}
	a = p.enter()
	p.retire(func() { called++ })
	p.retire(func() { called++ })
	p.leave(a)
	if called != 4 {
		t.Errorf("%d are called, expected 4", called)
	}
}

// Nobody is called early, whatever the order.
func TestPinsParallel(t *testing.T) {
	t.Parallel()
	var p pins
	var group sync.WaitGroup
	type thing struct{ mu sync.RWMutex }
	var now sync.Map // the thing that may be used
	now.Store(0, &thing{})
	for range 4 {
		group.Go(func() {
			for range 2000 {
				pin := p.enter()
				v, _ := now.Load(0)
				x := v.(*thing)
				if !x.mu.TryRLock() {
					t.Error("used after it was retired")
				} else {
					x.mu.RUnlock()
				}
				p.leave(pin)
			}
		})
	}
	group.Go(func() {
		for range 500 {
			old, _ := now.Swap(0, &thing{})
			p.retire(func() { old.(*thing).mu.Lock() }) // for good
		}
	})
	group.Wait()
}
