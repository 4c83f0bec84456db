package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// A flusher is a device whose flushes can be made to fail, and are counted.
type flusher struct {
	block.Pass
	broken atomic.Bool
	n      atomic.Int64
}

func (f *flusher) Flush(ctx context.Context) error {
	if f.broken.Load() {
		return block.ErrIO
	}
	f.n.Add(1)
	return f.Device.Flush(ctx)
}

// newLaw makes a set, and shows its devices.
func newLaw(t *testing.T, p snapshot.Policy) (s *snapshot.Set, origin, store *flusher) {
	t.Helper()
	origin = &flusher{Pass: block.Pass{Device: block.FromBytes(make([]byte, 64<<10))}}
	store = &flusher{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4<<20))}}
	s, err := snapshot.New(origin, store, snapshot.Options{Kind: "image", Format: snapshot.Always, Manual: true, Policy: p})
	if err == nil {
		err = s.Resume(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, origin, store
}

func same(t *testing.T, dev block.Device, seed uint64) {
	t.Helper()
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	blocktest.Fill(want, 0, seed)
	if err := dev.ReadAt(t.Context(), got, 0, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it is not what was written: %v", err)
	}
}

// As long as nothing can be made durable on the store, the origin device is not
// overwritten where something durable needs it: not by a copy-out, not after a
// deletion, not by a rollback.
func TestNothingDurableIsOverwritten(t *testing.T) {
	t.Parallel()
	for what, try := range map[string]func(s *snapshot.Set) error{
		"copy-out": func(s *snapshot.Set) error {
			return s.Origin().WriteAt(t.Context(), make([]byte, 8192), 0, 0)
		},
		"copied before": func(s *snapshot.Set) error {
			p := make([]byte, 8192)
			return errors.Join(s.Origin().WriteAt(t.Context(), p, 0, 0), s.Origin().WriteAt(t.Context(), p, 0, 0))
		},
		"deletion": func(s *snapshot.Set) error {
			return errors.Join(s.Delete(t.Context(), "a"), s.Origin().WriteAt(t.Context(), make([]byte, 8192), 0, 0))
		},
		"zero": func(s *snapshot.Set) error {
			return errors.Join(s.Delete(t.Context(), "a"), s.Origin().Zero(t.Context(), 0, 64<<10, 0))
		},
	} {
		s, origin, store := newLaw(t, snapshot.CopyOut)
		write(t, s.Origin(), 0, 64<<10, 1)
		create(t, s, "a", snapshot.CreateOptions{})
		store.broken.Store(true)
		if err := try(s); !errors.Is(err, block.ErrIO) {
			t.Errorf("%s: %v, expected %v", what, err, block.ErrIO)
		}
		same(t, origin, 1)
		store.broken.Store(false)
	}

	s, origin, store := newLaw(t, snapshot.Redirect)
	write(t, s.Origin(), 0, 64<<10, 1)
	create(t, s, "a", snapshot.CreateOptions{})
	if d, err := s.Open(t.Context(), "a", snapshot.OpenOptions{Write: true}); err != nil {
		t.Fatal(err)
	} else {
		write(t, d, 0, 64<<10, 2)
		d.Close()
	}
	if err := s.Origin().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.broken.Store(true)
	if err := s.Rollback(t.Context(), "a"); !errors.Is(err, block.ErrIO) {
		t.Errorf("rollback: %v, expected %v", err, block.ErrIO)
	}
	if _, err := s.Work(t.Context()); !errors.Is(err, block.ErrIO) {
		t.Errorf("work: %v, expected %v", err, block.ErrIO)
	}
	same(t, origin, 1)
	same(t, s.Origin(), 2)
	store.broken.Store(false)
}

// A flush of a client flushes each device at most once, and none that has
// nothing to make durable.
func TestBarriersPerFlush(t *testing.T) {
	t.Parallel()
	for policy, want := range map[snapshot.Policy][2]int64{
		snapshot.CopyOut: {1, 0}, // its commits came before the writes
		// The store that is used here needs two for a commit.
		snapshot.Redirect: {0, 2},
	} {
		s, origin, store := newLaw(t, policy)
		write(t, s.Origin(), 0, 64<<10, 1)
		create(t, s, "a", snapshot.CreateOptions{})
		for i := range int64(8) {
			write(t, s.Origin(), i*8192, 4096, 2)
		}
		a, b := origin.n.Load(), store.n.Load()
		for range 2 { // the second has nothing to do
			if err := s.Origin().Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := [2]int64{origin.n.Load() - a, store.n.Load() - b}; got != want {
			t.Errorf("%v: %v flushes of origin and store, expected %v", policy, got, want)
		}
	}
}

// Low space is told once, and a full store.
func TestSpaceEvents(t *testing.T) {
	t.Parallel()
	var low, full int
	s := newSet(t, snapshot.Options{Policy: snapshot.CopyOut, Low: 1 << 20, Notify: func(e snapshot.Event) {
		switch e.Kind {
		case snapshot.LowSpace:
			low++
		case snapshot.Full:
			full++
		}
	}}, 4<<20, 4<<20)
	create(t, s, "a", snapshot.CreateOptions{})
	var err error
	for off := int64(0); off < 4<<20 && err == nil; off += 64 << 10 {
		err = s.Origin().WriteAt(t.Context(), make([]byte, 64<<10), off, 0)
	}
	if !errors.Is(err, block.ErrNoSpace) || low != 1 || full != 1 {
		t.Errorf("%v, low space was told %d times, a full store %d times, expected once each", err, low, full)
	}
}
