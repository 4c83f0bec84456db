package kinds_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/race"
	"github.com/strata-storage/strata/snapshot"
)

// A first write that is redirected takes one write to the store, no barrier, and
// few allocations: the plan, and the entries that are kept.
func TestFirstWriteAllocations(t *testing.T) {
	const size = 64 << 20
	store := &counted{Device: block.FromBytes(make([]byte, 2*size))}
	s := open(t, block.FromBytes(make([]byte, size)), store, snapshot.Options{Policy: snapshot.Redirect, Manual: true})
	before, flushes, next := store.writes.Load(), store.flushes.Load(), int64(0)
	d, p := s.Origin(), make([]byte, chunk)
	allocations := testing.AllocsPerRun(1000, func() {
		if err := d.WriteAt(t.Context(), p, next*7%(size/chunk)*chunk, block.NoWait); err != nil {
			t.Error(err)
		}
		next++
	})
	if n := store.writes.Load() - before; n != next || store.flushes.Load() != flushes {
		t.Errorf("%d first writes took %d writes and %d flushes", next, n, store.flushes.Load()-flushes)
	}
	if allocations > 2 && !race.Enabled {
		t.Errorf("a first write allocates %.0f times", allocations)
	}
}

// Writes that copy share barriers, and blocks of the log: what 32 of them write
// at a time is little more than the copies.
func TestCopiesShareBarriers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size, lanes = 1 << 20, 32
		store := &counted{Device: block.FromBytes(make([]byte, 16<<20)), flushTime: time.Millisecond}
		s := open(t, block.FromBytes(make([]byte, size)), store, snapshot.Options{Policy: snapshot.CopyOut, Manual: true})
		bytes, flushes := store.bytes.Load(), store.flushes.Load()
		var all sync.WaitGroup
		for i := range int64(lanes) {
			all.Go(func() {
				p := make([]byte, chunk)
				for c := i; c < size/chunk; c += lanes {
					if err := s.Origin().WriteAt(t.Context(), p, c*chunk, 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		bytes, flushes = store.bytes.Load()-bytes, store.flushes.Load()-flushes
		if most := int64(2*size/chunk/lanes + 2); flushes > most {
			t.Errorf("%d flushes for %d writes, %d at a time, expected at most %d", flushes, size/chunk, lanes, most)
		}
		if bytes != size+flushes*4096 {
			t.Errorf("%d bytes were written for %d and %d flushes", bytes, size, flushes)
		}
	})
}

// What was redirected stays on the store as long as clients write, but not for
// ever, and comes home when they pause.
func TestHomecomingWaits(t *testing.T) {
	t.Parallel()
	homed := func(t *testing.T, writing, resting time.Duration) int64 {
		s := open(t, block.FromBytes(make([]byte, 1<<20)), block.FromBytes(make([]byte, 16<<20)), snapshot.Options{Policy: snapshot.Staged})
		p := make([]byte, chunk)
		for start := time.Now(); time.Since(start) < writing; time.Sleep(100 * time.Millisecond) {
			if err := s.Origin().WriteAt(t.Context(), p, time.Since(start).Milliseconds()/100*chunk%(1<<20), 0); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(resting)
		return s.Stats().Homed
	}
	for _, c := range []struct {
		what             string
		writing, resting time.Duration
		home             bool
	}{
		{"clients write", 5 * time.Second, 0, false},
		{"clients have paused", 5 * time.Second, 3 * time.Second, true},
		{"clients never pause", 20 * time.Second, 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			if n := homed(t, c.writing, c.resting); n > 0 != c.home {
				t.Errorf("%s: %d chunks have come home", c.what, n)
			}
		})
	}
}

// open makes a set of the kind ranged with a snapshot.
func open(t *testing.T, origin, store block.Device, o snapshot.Options) *snapshot.Set {
	t.Helper()
	o.Kind, o.Format = "ranged", snapshot.Always
	s, err := snapshot.New(origin, store, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "a", snapshot.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}
