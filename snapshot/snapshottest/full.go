package snapshottest

import (
	"errors"
	"slices"
	"sync"
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

// testInvalidate fills the store while snapshots are being read: all are given
// up so that the disk goes on, and who reads one gets what it had until then and
// errors from then on, never anything else.
func testInvalidate(t *testing.T, c Config, caps snapshot.Caps) {
	ctx := t.Context()
	c.Store /= 2
	c.Origin = c.Store + 1<<20
	l := newLab(c, blocktest.NewMachine(1), policies(caps)[len(policies(caps))-1])
	l.full = snapshot.Invalidate
	s := l.format(t)
	must(t, s.Create(ctx, "a", snapshot.CreateOptions{}))
	used, err := s.Open(ctx, "a", snapshot.OpenOptions{Write: caps.Writable})
	must(t, err)
	var readers sync.WaitGroup
	for i := range int64(2) {
		readers.Go(func() {
			got := make([]byte, c.Origin/2)
			for {
				err := used.ReadAt(ctx, got, i*c.Origin/2/c.Chunk*c.Chunk, 0)
				if err != nil && !errors.Is(err, snapshot.ErrGone) {
					t.Errorf("reading a snapshot that is given up: %v, expected %v", err, snapshot.ErrGone)
				}
				if err != nil {
					return
				}
				if !block.IsZero(got) {
					t.Error("the snapshot has changed")
					return
				}
			}
		})
	}
	// With redirected data the disk alone can fill the store in the end.
	for off := int64(0); off+c.Chunk <= c.Origin && len(s.List()) > 0; off += c.Chunk {
		fill(t, s.Origin(), off, c.Chunk, 1)
	}
	readers.Wait()
	if all := s.List(); len(all) > 0 {
		t.Errorf("there are snapshots left: %v", all)
	}
	for _, err := range used.Extents(ctx, block.Allocation, 0, c.Chunk) {
		if !errors.Is(err, snapshot.ErrGone) {
			t.Errorf("extents of a snapshot that was given up: %v, expected %v", err, snapshot.ErrGone)
		}
	}
	if caps.Writable {
		if err := used.WriteAt(ctx, make([]byte, c.Chunk), 0, 0); !errors.Is(err, snapshot.ErrGone) || !errors.Is(err, block.ErrIO) {
			t.Errorf("writing to a snapshot that was given up: %v, expected %v", err, snapshot.ErrGone)
		}
	}
	work(t, s)
	// The name is free, and is another snapshot.
	must(t, s.Create(ctx, "a", snapshot.CreateOptions{}))
	if err := used.ReadAt(ctx, make([]byte, c.Chunk), 0, 0); !errors.Is(err, snapshot.ErrGone) {
		t.Errorf("reading a snapshot that was given up, with another of its name: %v, expected %v", err, snapshot.ErrGone)
	}
	must(t, used.Close())
	must(t, s.Delete(ctx, "a"))
	finish(t, s)
}
