package replica

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bubble is the clock of a synctest bubble.
type bubble struct{ began time.Time }

func (b bubble) Now() time.Duration { return time.Since(b.began) }

func (b bubble) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// flushTakes is how long a flush takes in tests.
const flushTakes = 4 * time.Millisecond

// counted calls f with a flusher, and returns how many flushes it has caused and how long
// they took.
func counted(f func(*flusher)) (flushes int, took time.Duration) {
	fl := flusher{clock: bubble{time.Now()}, flushAll: func() error { flushes++; time.Sleep(flushTakes); return nil }}
	begin := time.Now()
	f(&fl)
	return flushes, time.Since(begin)
}

// writers flush so many times each, all a little after the last one.
func writers(t *testing.T, fl *flusher, n, times int) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for range times {
				time.Sleep(time.Duration(50+i) * time.Microsecond)
				if err := fl.flush(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// Writers who all flush again and again do so together, rather than by turns.
func TestFlushesGather(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		flushes, _ := counted(func(fl *flusher) { writers(t, fl, 16, 100) })
		if flushes > 105 {
			t.Errorf("16 writers with 100 flushes each have caused %d", flushes)
		}
	})
}

// Who is alone does not wait for others, and for those who have left only once.
func TestFlushDoesNotWaitForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		flushes, took := counted(func(fl *flusher) { writers(t, fl, 1, 100) })
		if want := 100 * (flushTakes + 50*time.Microsecond); flushes != 100 || took != want {
			t.Errorf("%d flushes have taken %v, expected %v", flushes, took, want)
		}
		counted(func(fl *flusher) {
			writers(t, fl, 16, 10)
			begin := time.Now()
			writers(t, fl, 1, 100)
			if took, limit := time.Since(begin), 100*(flushTakes+50*time.Microsecond)+flushTakes/2; took > limit {
				t.Errorf("the last of 16 writers has waited %v, expected %v at most", took, limit)
			}
		})
	})
}

// A flush covers what was written before it was called: who comes while one is under way
// gets the next one.
func TestFlushBeginsAfterTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counted(func(fl *flusher) {
			var all sync.WaitGroup
			all.Go(func() { writers(t, fl, 1, 1) })
			time.Sleep(time.Millisecond)
			all.Go(func() {
				begin := time.Now()
				if err := fl.flush(context.Background()); err != nil || time.Since(begin) < flushTakes {
					t.Errorf("a flush took %v, %v", time.Since(begin), err)
				}
			})
			all.Wait()
		})
	})
}
