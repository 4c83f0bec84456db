package snapshottest

import (
	"errors"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// testFull fills the store.
func testFull(t *testing.T, c Config, caps snapshot.Caps) {
	for _, policy := range []snapshot.WhenFull{snapshot.Preserve, snapshot.DropLowest, snapshot.Invalidate} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			small := c
			small.Origin = c.Store + 1<<20
			l := newLab(small, blocktest.NewMachine(1), snapshot.CopyOut)
			l.full = policy
			s := l.format(t)
			must(t, s.Create(t.Context(), "a", snapshot.CreateOptions{Priority: -1}))
			var full error
			written := int64(0)
			for ; written+c.Chunk <= small.Origin && full == nil; written += c.Chunk {
				p := make([]byte, c.Chunk)
				blocktest.Fill(p, written, 1)
				full = s.Origin().WriteAt(t.Context(), p, written, 0)
			}
			switch {
			case policy == snapshot.Preserve && !errors.Is(full, block.ErrNoSpace):
				t.Errorf("a full store: %v, expected %v", full, block.ErrNoSpace)
			case policy == snapshot.Preserve:
				d, err := s.Open(t.Context(), "a", snapshot.OpenOptions{})
				must(t, err)
				got := make([]byte, small.Origin)
				must(t, d.ReadAt(t.Context(), got, 0, 0))
				if !block.IsZero(got) {
					t.Error("the snapshot has changed")
				}
				must(t, d.Close())
				must(t, s.Delete(t.Context(), "a"))
				work(t, s)
				fill(t, s.Origin(), 0, small.Origin, 2)
			case full != nil:
				t.Errorf("a full store that may drop snapshots: %v", full)
			case len(s.List()) != 0:
				t.Errorf("there are snapshots left: %v", s.List())
			}
			finish(t, s)
		})
	}
}

// testDrop fills the store while there are several snapshots: they are given up
// in the order of their priorities, and of their ages among equals, but not one
// that is in use.
func testDrop(t *testing.T, c Config, caps snapshot.Caps) {
	if n := caps.MaxSnapshots; n > 0 && n < 5 {
		t.Skip("there can be too few snapshots")
	}
	ctx := t.Context()
	c.Store /= 2
	c.Origin = c.Store + 1<<20
	l := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut)
	l.full = snapshot.DropLowest
	var dropped []string
	l.notify = func(e snapshot.Event) {
		if e.Kind == snapshot.Deleted {
			dropped = append(dropped, e.Name)
		}
	}
	s := l.format(t)
	for _, x := range []struct {
		name     string
		priority int
	}{{"kept", 0}, {"low", -1}, {"used", -9}, {"high", 127}, {"low too", -1}} {
		must(t, s.Create(ctx, x.name, snapshot.CreateOptions{Priority: x.priority}))
	}
	if caps.Persistent && caps.Values {
		// Priorities are kept.
		must(t, s.Close())
		var err error
		s, err = l.open(t)
		must(t, err)
	}
	used, err := s.Open(ctx, "used", snapshot.OpenOptions{})
	must(t, err)
	// All have the same chunks, so that one after the other is of no avail.
	p := make([]byte, c.Chunk)
	blocktest.Fill(p, 0, 1)
	var full error
	for off := int64(0); off+c.Chunk <= c.Origin && full == nil; off += c.Chunk {
		full = s.Origin().WriteAt(ctx, p, off, 0)
	}
	if !errors.Is(full, block.ErrNoSpace) {
		t.Errorf("a store that is full of a snapshot in use: %v, expected %v", full, block.ErrNoSpace)
	}
	if want := []string{"low", "low too", "kept", "high"}; !slices.Equal(dropped, want) {
		t.Errorf("given up were %q, expected %q", dropped, want)
	}
	got := make([]byte, c.Origin)
	must(t, used.ReadAt(ctx, got, 0, 0))
	if !block.IsZero(got) {
		t.Error("the snapshot in use has changed")
	}
	must(t, used.Close())
	finish(t, s)
}
