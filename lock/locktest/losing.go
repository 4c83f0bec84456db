package locktest

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/lock"
)

type fence struct {
	mu       sync.Mutex
	greatest uint64
	late     int // writes of those who had been told
}

func (f *fence) write(h lock.Hold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := h.Generation()
	if g < f.greatest && h.Err() == nil {
		f.late++
	}
	f.greatest = max(f.greatest, g)
}

func (s *suite) loseOften() {
	var f fence
	var all sync.WaitGroup
	var mu sync.Mutex
	owner := map[uint64]int{}
	for p, l := range []lock.Lock{s.join(), s.join(), s.join()} {
		all.Go(func() {
			for i := range 8 {
				h, err := l.Lock(s.ctx)
				if err != nil {
					s.Error(err)
					return
				}
				mu.Lock()
				if was, ok := owner[h.Generation()]; ok && was != p {
					s.Errorf("generation %d is of two parties", h.Generation())
				}
				owner[h.Generation()] = p
				mu.Unlock()
				f.write(h)
				if (i+p)%4 == 0 {
					s.Lose()
					<-h.Lost()
				}
				f.write(h)
				h.Unlock()
			}
		})
	}
	all.Wait()
	if f.late > 0 {
		s.Errorf("%d writes by holders that others had followed and that did not know", f.late)
	}
}

func (s *suite) raise() {
	a, b := s.join(), s.join()
	h := s.lock(a)
	for _, above := range []uint64{0, 1000, 5} {
		if err := h.Raise(s.ctx, above); err != nil {
			s.Fatal(err)
		}
	}
	if g := h.Generation(); g != 1001 {
		s.Fatalf("generation %d after Raise above 1000", g)
	}
	if err := h.Raise(s.ctx, 1<<64-1); err == nil || errors.Is(err, lock.ErrLost) {
		s.Fatalf("Raise above all: %v", err)
	}
	s.unlock(h)
	if h := s.lock(a); h.Generation() != 1001 || h.HeldByOther() {
		s.Fatalf("generation %d, held by other %v after my own Raise", h.Generation(), h.HeldByOther())
	} else {
		s.unlock(h)
	}
	if h := s.lock(b); h.Generation() <= 1001 || !h.HeldByOther() {
		s.Fatalf("generation %d after Raise of another", h.Generation())
	} else {
		s.unlock(h)
	}
}

func (s *suite) lazy() {
	const parties, goroutines, rounds = 3, 8, 30
	var mu sync.Mutex
	inside, writes := map[int]int{}, 0
	var d shared
	var all sync.WaitGroup
	for p := range parties {
		z := lock.NewLazy(s.Join(), lock.LazyOptions{
			Min: time.Millisecond, Max: 2 * time.Millisecond,
			Taken: func(_ context.Context, h lock.Hold) error { return d.write(p+1, h) },
			Leaving: func(h lock.Hold) {
				if err := h.Err(); err != nil {
					s.Error(err)
				}
			},
		})
		s.Cleanup(func() { z.Close() })
		for range goroutines {
			all.Go(func() {
				for range rounds {
					if _, err := z.Enter(s.ctx); err != nil {
						s.Error(err)
						return
					}
					mu.Lock()
					writes++
					inside[p]++
					for other, n := range inside {
						if other != p && n > 0 {
							s.Errorf("party %d is inside with party %d", other, p)
						}
					}
					mu.Unlock()
					runtime.Gosched()
					mu.Lock()
					inside[p]--
					mu.Unlock()
					z.Leave()
				}
			})
		}
	}
	all.Wait()
	if writes != parties*goroutines*rounds {
		s.Errorf("%d of %d entered", writes, parties*goroutines*rounds)
	}
}

func leaks(t *testing.T, open func(t *testing.T) Transport) {
	s := newSuite(t, open)
	s.unlock(s.lock(s.join()))
	use := func() {
		a, b := s.Join(), s.Join()
		h := s.lock(a)
		h.Lost()
		ctx, cancel := context.WithCancel(s.ctx)
		r := s.begin(ctx, b)
		wait(s, h.Waiting(), "b waits")
		cancel()
		wait(s, r, "a cancelled Lock returns")
		r = s.begin(s.ctx, b)
		wait(s, h.Waiting(), "b waits")
		s.Lose()
		wait(s, r, "b gets the lock")
		a.Close()
		b.Close()
	}
	use()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 3 {
		use()
	}
	s.eventually(func() bool { return openFiles(t) <= files }, "no file or connection is left")
	s.eventually(func() bool { return runtime.NumGoroutine() <= goroutines }, "no goroutine is left")
}

func openFiles(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	return len(all)
}
