package snapshot_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/snapshot"
)

// laborious is a kind with so many entries left to step over, each of which takes
// so long; but the last easy ones take nothing.
type laborious struct {
	snapshot.Store
	each time.Duration
	left int
	// entries counts those that steps have begun with.
	entries atomic.Int64
	easy    int
	// Steps wait for it, if it is not nil.
	wait  chan struct{}
	steps []int
	took  []time.Duration
}

var labor struct {
	sync.Mutex
	next *laborious
}

func init() {
	snapshot.Register(snapshot.Kind{Name: "laborious", Doc: "For tests.", New: func(c snapshot.Config) (st snapshot.Store, err error) {
		l := labor.next
		l.Store, err = newImage(c)
		return l, err
	}})
}

func (l *laborious) Step(_ context.Context, budget int) (snapshot.Progress, error) {
	if l.wait != nil {
		<-l.wait
	}
	if l.left == 0 {
		return snapshot.Progress{}, nil
	}
	n := min(budget, l.left)
	l.left -= n
	l.entries.Add(int64(n))
	took := time.Duration(n) * l.each
	if l.left < l.easy {
		took = 0
	}
	time.Sleep(took)
	l.steps, l.took = append(l.steps, n), append(l.took, took)
	return snapshot.Progress{Done: int64(n), More: l.left > 0}, nil
}

// open makes a set of a store of this kind.
func (l *laborious) open(t *testing.T, manual bool, with lock.Lock) *snapshot.Set {
	labor.Lock()
	defer labor.Unlock()
	labor.next = l
	s, err := snapshot.New(block.FromBytes(make([]byte, 1<<20)), block.FromBytes(make([]byte, 4<<20)),
		snapshot.Options{Kind: "laborious", Format: snapshot.Always, Manual: manual, Lock: with})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// A step of background work is bounded in time, however long an entry takes, and
// not smaller than need be; where others may wait for the lock it is shorter.
func TestStepsTakeTheirTime(t *testing.T) {
	t.Parallel()
	for _, each := range []time.Duration{10 * time.Nanosecond, 300 * time.Nanosecond, 2 * time.Microsecond, 15 * time.Microsecond} {
		for limit, shared := range map[time.Duration]bool{20 * time.Millisecond: false, 2 * time.Millisecond: true} {
			t.Run(fmt.Sprint(limit, each), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testStepsTakeTheirTime(t, limit, each, shared) })
			})
		}
	}
}

func testStepsTakeTheirTime(t *testing.T, limit, each time.Duration, shared bool) {
	var with lock.Lock
	if shared {
		with = new(lock.Local).Join()
	}
	l := &laborious{each: each, left: 100_000}
	s := l.open(t, false, with)
	time.Sleep(10 * time.Second)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if l.left > 0 {
		t.Fatalf("%d entries are left after 10 s", l.left)
	}
	// The first ones find out.
	for i, took := range l.took {
		if i > 5 && i < len(l.took)-1 && (took > limit || took < limit/4 && l.steps[i] < 4096) {
			t.Fatalf("step %d takes %v, for %d entries", i, took, l.steps[i])
		}
	}
}

// An entry that takes very long does not make steps so small that all is spent
// on them, and what was slow once may be quick again.
func TestStepsGrowAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &laborious{each: time.Millisecond, left: 100_000, easy: 90_000}
		s := l.open(t, false, nil)
		time.Sleep(20 * time.Second)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if l.left > 0 {
			t.Fatalf("%d entries are left", l.left)
		}
		for i, n := range l.steps {
			switch last := i >= len(l.steps)-2; {
			case last:
			case i > 5 && l.took[i] > 0 && n != 128:
				t.Fatalf("step %d has %d slow entries, expected 128", i, n)
			case i > 0 && l.took[i-1] == 0 && n != min(4096, 2*l.steps[i-1]):
				t.Fatalf("step %d has %d quick entries after %d", i, n, l.steps[i-1])
			}
		}
		if n := l.steps[len(l.steps)-2]; n != 4096 {
			t.Errorf("steps have %d entries though they take nothing", n)
		}
	})
}

// Who asks for a step gets a whole one, which depends on no clock.
func TestStepsThatAreAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &laborious{each: time.Millisecond, left: 3 * 4096}
		s := l.open(t, true, nil)
		for range 3 {
			if _, err := s.Work(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, n := range l.steps {
			if n != 4096 {
				t.Errorf("a step has %d entries, expected 4096", n)
			}
		}
	})
}

// While another party waits for the lock there is one step, so that both get on,
// and the lock changes hands after the minimum.
func TestStepsHandOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var shared lock.Local
		l := &laborious{each: 2 * time.Microsecond, left: 1_000_000}
		s := l.open(t, false, shared.Join())
		time.Sleep(100 * time.Millisecond)
		other := shared.Join()
		for i := range 100 {
			begin, before := time.Now(), l.entries.Load()
			h, err := other.Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			after := l.entries.Load()
			if d := time.Since(begin); d > 5*time.Millisecond {
				t.Fatalf("turn %d: the lock changes hands after %v", i, d)
			}
			if n := after - before; i > 0 && (n == 0 || n > 1000) {
				t.Fatalf("turn %d: steps over %d entries, a step has up to 1000 in 2 ms", i, n)
			}
			time.Sleep(8 * time.Millisecond) // the next step is wanted meanwhile
			if l.entries.Load() != after {
				t.Fatal("a step without the lock")
			}
			h.Unlock()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
