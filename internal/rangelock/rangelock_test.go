package rangelock

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestConflicts(t *testing.T) {
	t.Parallel()
	type held struct {
		off, n int64
		shared bool
	}
	tests := []struct {
		name string
		a, b held
		free bool
	}{
		{"same", held{0, 8, false}, held{0, 8, false}, false},
		{"behind", held{0, 8, false}, held{8, 8, false}, true},
		{"before", held{8, 8, false}, held{0, 8, false}, true},
		{"one byte", held{0, 9, false}, held{8, 8, false}, false},
		{"inside", held{0, 100, false}, held{50, 1, false}, false},
		{"around", held{50, 1, false}, held{0, 100, false}, false},
		{"shared", held{0, 8, true}, held{0, 8, true}, true},
		{"shared then exclusive", held{0, 8, true}, held{0, 8, false}, false},
		{"exclusive then shared", held{0, 8, false}, held{0, 8, true}, false},
		{"empty in full", held{0, 100, false}, held{50, 0, false}, true},
		{"full over empty", held{50, 0, false}, held{0, 100, false}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var l Lock
			try := func(h held) *Range {
				if h.shared {
					return l.TryRLock(h.off, h.n)
				}
				return l.TryLock(h.off, h.n)
			}
			a := try(tt.a)
			if a == nil {
				t.Fatal("a new lock is not free")
			}
			b := try(tt.b)
			if (b != nil) != tt.free {
				t.Fatalf("second range: got it is %v, want %v", b != nil, tt.free)
			}
			if b != nil {
				b.Unlock()
			}
			a.Unlock()
			if b = try(tt.b); b == nil {
				t.Fatal("not free after Unlock")
			}
			b.Unlock()
			if l.first != nil || l.last != nil || l.waiting != 0 {
				t.Fatalf("the empty lock is not empty: %+v", &l)
			}
		})
	}
}

// A writer that waits is not overtaken by readers that come later, and those
// of other ranges pass it.
func TestFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var l Lock
		reader := l.TryRLock(0, 10)
		var order []string
		var mu sync.Mutex
		start := func(name string, lock func(context.Context, int64, int64) (*Range, error), off, n int64) {
			go func() {
				r, err := lock(ctx, off, n)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				r.Unlock()
			}()
			synctest.Wait()
		}
		start("writer", l.Lock, 5, 10)
		start("late reader", l.RLock, 0, 10)
		start("elsewhere", l.Lock, 20, 10)
		if l.TryRLock(7, 1) != nil {
			t.Error("a reader overtook the waiting writer")
		}
		reader.Unlock()
		synctest.Wait()
		if len(order) != 3 || order[0] != "elsewhere" || order[1] != "writer" || order[2] != "late reader" {
			t.Errorf("order %q", order)
		}
	})
}

// A wait that is cancelled leaves nothing behind and lets those pass that
// waited for it alone.
func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var l Lock
		held := l.TryRLock(0, 10)
		waited := make(chan error)
		go func() {
			_, err := l.Lock(ctx, 0, 20)
			waited <- err
		}()
		synctest.Wait()
		got := make(chan *Range)
		go func() {
			r, err := l.Lock(t.Context(), 15, 5)
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
		synctest.Wait()
		cancel(cause)
		if err := <-waited; err != cause {
			t.Errorf("error %v, want %v", err, cause)
		}
		(<-got).Unlock()
		held.Unlock()
		if l.first != nil || l.waiting != 0 {
			t.Errorf("the lock is not empty: %+v", &l)
		}
		if _, err := l.Lock(ctx, 0, 1); err != cause {
			t.Errorf("cancelled before: %v, want %v", err, cause)
		}
	})
}

func TestUnlockTwicePanics(t *testing.T) {
	t.Parallel()
	var l Lock
	r := l.TryLock(0, 1)
	r.Unlock()
	defer func() {
		if recover() == nil {
			t.Error("the second Unlock did not panic")
		}
	}()
	r.Unlock()
}

// Many goroutines take random ranges in random ways, some giving up early. No
// byte may ever have a writer and anybody else.
func TestRandom(t *testing.T) {
	t.Parallel()
	const size, workers, rounds = 64, 16, 400
	var l Lock
	var users [size]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range rounds {
				off := rng.Int64N(size)
				n := rng.Int64N(min(16, size-off))
				shared := rng.IntN(2) == 0
				weight := int32(workers)
				lock := l.Lock
				if shared {
					weight, lock = 1, l.RLock
				}
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(3) == 0 {
					go cancel()
				}
				r, err := lock(ctx, off, n)
				cancel()
				if err != nil {
					continue
				}
				for i := off; i < off+n; i++ {
					if v := users[i].Add(weight); v > workers || !shared && v != workers {
						t.Errorf("byte %d has users of weight %d", i, v)
					}
				}
				for i := off; i < off+n; i++ {
					users[i].Add(-weight)
				}
				r.Unlock()
			}
		})
	}
	wg.Wait()
	if l.first != nil || l.last != nil || l.waiting != 0 {
		t.Errorf("the lock is not empty: %+v", &l)
	}
}

func TestNoAllocation(t *testing.T) {
	var l Lock
	ctx := context.Background()
	held := l.TryLock(1000, 10)
	defer held.Unlock()
	n := testing.AllocsPerRun(100, func() {
		r, err := l.Lock(ctx, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		r.Unlock()
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkLock(b *testing.B) {
	ctx := context.Background()
	var l Lock
	for b.Loop() {
		r, _ := l.Lock(ctx, 0, 4096)
		r.Unlock()
	}
}
