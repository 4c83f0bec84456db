package snapshottest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// testCopies counts copies.
func testCopies(t *testing.T, c Config, caps snapshot.Caps) {
	n := 20
	if caps.MaxSnapshots > 0 {
		n = min(n, caps.MaxSnapshots)
	}
	s := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut).format(t)
	copied := func(f func()) int64 {
		before := s.Stats().Copied
		f()
		return s.Stats().Copied - before
	}
	names := make([]string, n)
	fill(t, s.Origin(), 0, c.Origin, 1)
	for i := range names {
		names[i] = fmt.Sprint("s", i+1)
		must(t, s.Create(t.Context(), names[i], snapshot.CreateOptions{}))
	}
	// Sharing is perfect as long as no snapshot is written.
	if got := copied(func() { fill(t, s.Origin(), 0, c.Chunk, 2) }); got != 1 {
		t.Errorf("with %d snapshots the first write copies %d times, expected once", n, got)
	}
	if got := copied(func() { fill(t, s.Origin(), 0, c.Chunk, 3) }); got != 0 {
		t.Errorf("with %d snapshots the second write copies %d times, expected none", n, got)
	}
	for _, name := range names {
		expectView(t, s, name, 0, c.Chunk, 1)
	}
	if !caps.Writable || n < 5 {
		finish(t, s)
		return
	}
	writeView(t, s, names[2], c.Chunk, c.Chunk, 4)
	want := int64(1)
	if c.Exact {
		want = 2 // before and behind the one that was written
	}
	if got := copied(func() { fill(t, s.Origin(), c.Chunk, c.Chunk, 5) }); got > want || c.Exact && got != want {
		t.Errorf("after a write to a snapshot the first write copies %d times, expected %d", got, want)
	}
	// Snapshots share the copy now. One is written.
	if got := copied(func() { writeView(t, s, names[1], c.Chunk, c.Chunk, 6) }); got > c.Copies {
		t.Errorf("a write to a snapshot copies %d times, expected at most %d", got, c.Copies)
	}
	for i, name := range names {
		expectView(t, s, name, c.Chunk, c.Chunk, map[int]uint64{2: 4, 1: 6}[i]+b2u(i != 1 && i != 2))
	}
	if got := s.Stats().Store.Commits; got == 0 {
		t.Error("there was no commit before the origin was overwritten")
	}
	manyRanges(t, c, s, names)
	finish(t, s)
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// manyRanges writes to every second snapshot, so that the origin needs more
// copies than a plan has destinations.
func manyRanges(t *testing.T, c Config, s *snapshot.Set, names []string) {
	for i := 0; i < len(names); i += 2 {
		writeView(t, s, names[i], 2*c.Chunk, c.Chunk, uint64(100+i))
	}
	fill(t, s.Origin(), 2*c.Chunk, c.Chunk, 7)
	for i, name := range names {
		want := uint64(1)
		if i%2 == 0 {
			want = uint64(100 + i)
		}
		expectView(t, s, name, 2*c.Chunk, c.Chunk, want)
	}
}

func writeView(t testing.TB, s *snapshot.Set, name string, off, n int64, seed uint64) {
	t.Helper()
	d, err := s.Open(t.Context(), name, snapshot.OpenOptions{Write: true})
	must(t, err)
	fill(t, d, off, n, seed)
	must(t, d.Close())
}

func expectView(t testing.TB, s *snapshot.Set, name string, off, n int64, seed uint64) {
	t.Helper()
	d, err := s.Open(t.Context(), name, snapshot.OpenOptions{})
	must(t, err)
	expect(t, d, off, n, seed)
	must(t, d.Close())
}

// testDelete counts the work of deleting in one batch and one by one, and
// suspends in between.
func testDelete(t *testing.T, c Config, caps snapshot.Caps) {
	n := 12
	if caps.MaxSnapshots > 0 {
		n = min(n, caps.MaxSnapshots)
	}
	l := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut)
	s := l.format(t)
	free := s.Stats().Store.Free
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint(i))
		must(t, s.Create(t.Context(), names[i], snapshot.CreateOptions{}))
		fill(t, s.Origin(), int64(i)*c.Chunk, 8*c.Chunk, uint64(i+1))
	}
	keep := n / 2
	kept := make([]byte, c.Origin)
	d, err := s.Open(t.Context(), names[keep], snapshot.OpenOptions{})
	must(t, err)
	must(t, d.ReadAt(t.Context(), kept, 0, 0))
	must(t, d.Close())
	gone := append(append([]string{}, names[:keep]...), names[keep+1:]...)
	must(t, s.Delete(t.Context(), gone...))
	must(t, s.Suspend(t.Context()))
	must(t, s.Resume(t.Context()))
	if caps.Persistent && caps.Values {
		if _, err := s.Work(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, s.Close())
		s, err = l.open(t)
		must(t, err)
	}
	work(t, s)
	check(t, s)
	got := make([]byte, c.Origin)
	d, err = s.Open(t.Context(), names[keep], snapshot.OpenOptions{})
	must(t, err)
	must(t, d.ReadAt(t.Context(), got, 0, 0))
	must(t, d.Close())
	if string(got) != string(kept) {
		t.Error("the snapshot that was kept has changed")
	}
	must(t, s.Delete(t.Context(), names[keep]))
	work(t, s)
	if st := s.Stats().Store; st.Exceptions != 0 || st.Data != 0 || st.Free+st.Meta < free {
		t.Errorf("without snapshots %+v is in use, %d bytes were free at first", st, free)
	}
	finish(t, s)
}

// testBatch deletes snapshots in one batch and one by one: the batch must not
// cost more.
func testBatch(t *testing.T, c Config, caps snapshot.Caps) {
	n := 10
	if caps.MaxSnapshots > 0 {
		n = min(n, caps.MaxSnapshots)
	}
	visits := func(batch bool) int64 {
		s := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut).format(t)
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint(i))
			must(t, s.Create(t.Context(), names[i], snapshot.CreateOptions{}))
			fill(t, s.Origin(), int64(i)*c.Chunk, 30*c.Chunk, uint64(i+1))
		}
		work(t, s)
		before := s.Stats().Store.Visits
		if batch {
			must(t, s.Delete(t.Context(), names...))
			work(t, s)
		} else {
			for _, name := range names {
				must(t, s.Delete(t.Context(), name))
				work(t, s)
			}
		}
		v := s.Stats().Store.Visits - before
		finish(t, s)
		return v
	}
	if one, all := visits(true), visits(false); one > all || one == 0 && n > 1 {
		t.Errorf("deleting %d snapshots visits %d entries in a batch, %d one by one", n, one, all)
	}
}

// testSuspend suspends in the middle of background work: nothing happens until
// Resume, and then it goes on.
func testSuspend(t *testing.T, c Config) {
	ctx := t.Context()
	l := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut)
	l.background = true
	s := l.format(t)
	must(t, s.Create(ctx, "a", snapshot.CreateOptions{}))
	fill(t, s.Origin(), 0, c.Origin, 1)
	must(t, s.Delete(ctx, "a"))
	must(t, s.Suspend(ctx))
	steps := s.Stats().Steps
	written := make(chan error)
	go func() { written <- s.Origin().WriteAt(ctx, make([]byte, c.Chunk), 0, 0) }()
	if got := s.Stats().Steps; got != steps {
		t.Errorf("there were %d steps while it was suspended", got-steps)
	}
	select {
	case err := <-written:
		t.Errorf("a write was done while it was suspended: %v", err)
	default:
	}
	for what, err := range map[string]error{
		"create": s.Create(ctx, "b", snapshot.CreateOptions{}), "delete": s.Delete(ctx, "b"),
	} {
		if !errors.Is(err, snapshot.ErrBusy) {
			t.Errorf("%s while it was suspended: %v, expected %v", what, err, snapshot.ErrBusy)
		}
	}
	check(t, s)
	must(t, s.Resume(ctx))
	must(t, <-written)
	for s.Stats().Store.Exceptions > 0 {
		if _, err := s.Work(ctx); err != nil {
			t.Fatal(err)
		}
	}
	must(t, s.Close())
}
