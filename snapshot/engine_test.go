package snapshot_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
	"github.com/strata-storage/strata/snapshot"
)

func create(t testing.TB, s *snapshot.Set, name string, o snapshot.CreateOptions) {
	t.Helper()
	if err := s.Create(t.Context(), name, o); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, d block.Device, off, n int64, seed uint64) {
	t.Helper()
	p := make([]byte, n)
	blocktest.Fill(p, off, seed)
	if err := d.WriteAt(t.Context(), p, off, 0); err != nil {
		t.Fatal(err)
	}
}

// What differs is found, and where it is equal it is said to be.
func TestDiff(t *testing.T) {
	t.Parallel()
	s := newSet(t, snapshot.Options{}, 100_000, 4<<20)
	create(t, s, "a", snapshot.CreateOptions{})
	write(t, s.Origin(), 5000, 100, 1)
	write(t, s.Origin(), 98_304, 100_000-98_304, 2)
	create(t, s, "b", snapshot.CreateOptions{})
	write(t, s.Origin(), 40_960, 8192, 3)
	diff := func(a, b string) (all []block.Extent) {
		for e, err := range s.Diff(t.Context(), a, b) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Status == snapshot.Changed {
				all = append(all, e)
			}
		}
		return all
	}
	is := func(got []block.Extent, want ...block.Extent) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("changed is %v, expected %v", got, want)
		}
		for i := range got {
			if got[i].Off != want[i].Off || got[i].Len != want[i].Len {
				t.Errorf("changed is %v, expected %v", got, want)
			}
		}
	}
	is(diff("a", "b"), block.Extent{Off: 4096, Len: 4096}, block.Extent{Off: 98_304, Len: 1696})
	is(diff("b", ""), block.Extent{Off: 40_960, Len: 8192})
	is(diff("b", "b"))
	u, err := s.Usage(t.Context(), "a", "b")
	if err != nil || len(u) != 2 {
		t.Error(u, err)
	}
	for _, err := range s.Diff(t.Context(), "a", "none") {
		if !errors.Is(err, snapshot.ErrNoSnapshot) {
			t.Error(err)
		}
	}
}

// A rewrite of what no snapshot shares allocates nothing, and neither does a
// read.
func TestNoAllocation(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	s := newSet(t, snapshot.Options{Policy: snapshot.CopyOut}, 1<<20, 4<<20)
	create(t, s, "a", snapshot.CreateOptions{})
	d := s.Origin()
	p := make([]byte, 4096)
	ctx := t.Context()
	write(t, d, 0, 4096, 1)
	for what, f := range map[string]func() error{
		"write": func() error { return d.WriteAt(ctx, p, 0, block.NoWait) },
		"read":  func() error { return d.ReadAt(ctx, p, 0, 0) },
		"first": func() error { return d.ReadAt(ctx, p, 4096, 0) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil && !errors.Is(err, block.ErrWouldBlock) {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

// A rollback is seen at once, the rest follows in the background, and what is
// written meanwhile stays.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, p := range []snapshot.Policy{snapshot.CopyOut, snapshot.Redirect, snapshot.Staged} {
		s := newSet(t, snapshot.Options{Policy: p}, 4<<20, 16<<20)
		d := s.Origin()
		write(t, d, 0, 4<<20, 1)
		old := make([]byte, 4<<20)
		blocktest.Fill(old, 0, 1)
		create(t, s, "a", snapshot.CreateOptions{})
		write(t, d, 0, 3<<20, 2)
		create(t, s, "b", snapshot.CreateOptions{})
		write(t, d, 1<<20, 2<<20, 3)
		if err := s.Rollback(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4<<20)
		for i := 0; ; i++ {
			if err := d.ReadAt(t.Context(), got, 0, 0); err != nil || !bytes.Equal(got, old) {
				t.Fatalf("%v: after %d steps the origin is not what it was: %v", p, i, err)
			}
			if i == 1 {
				write(t, d, 2<<20-3, 7000, 4)
				blocktest.Fill(old[2<<20-3:][:7000], 2<<20-3, 4)
				if err := s.Create(t.Context(), "c", snapshot.CreateOptions{}); !errors.Is(err, snapshot.ErrBusy) {
					t.Errorf("create during a rollback: %v", err)
				}
			}
			w, err := s.Work(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !w.More {
				break
			}
		}
		if x := s.List(); len(x) != 2 || x[0].RollingBack {
			t.Errorf("the snapshots are %v", x)
		}
	}
}

// Staged brings everything home, and the store has only what the snapshot
// needs.
func TestHomecoming(t *testing.T) {
	t.Parallel()
	origin := blocktest.NewDevice(block.Info{Size: 1 << 20})
	s, err := snapshot.New(block.Keep(origin), blocktest.NewDevice(block.Info{Size: 8 << 20}),
		snapshot.Options{Kind: "image", Format: snapshot.Always, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", snapshot.CreateOptions{})
	write(t, s.Origin(), 0, 512<<10, 1)
	for more := true; more; {
		p, err := s.Work(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		more = p.More
	}
	want, got := make([]byte, 512<<10), make([]byte, 512<<10)
	blocktest.Fill(want, 0, 1)
	if err := origin.ReadAt(t.Context(), got, 0, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the origin device does not have what was written: %v", err)
	}
	if st := s.Stats().Store; st.Exceptions > 128 {
		t.Errorf("%d chunks are on the store, expected at most 128", st.Exceptions)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
