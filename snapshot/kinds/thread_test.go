package kinds_test

import (
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/kinds"
)

const chunk = snapshot.DefaultChunk

// memory makes a set of the kind ranged on devices in memory.
func memory(t *testing.T, o snapshot.Options) *snapshot.Set {
	t.Helper()
	dev := func(n int64) block.Device { return block.FromBytes(make([]byte, n)) }
	o.Kind, o.Format, o.Manual = "ranged", snapshot.Always, true
	s, err := snapshot.New(dev(1<<20), dev(16<<20), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(t.Context(), func(p error) { t.Error(p) }); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s
}

// copies returns how many copies a write to a chunk of dev costs.
func copies(t *testing.T, s *snapshot.Set, dev block.Device, c int64, fill byte) int64 {
	t.Helper()
	before := s.Stats().Copied
	p := make([]byte, chunk)
	for i := range p {
		p[i] = fill
	}
	if err := dev.WriteAt(t.Context(), p, c*chunk, 0); err != nil {
		t.Fatal(err)
	}
	return s.Stats().Copied - before
}

// first returns the first byte of a chunk of a snapshot.
func first(t *testing.T, s *snapshot.Set, name string, c int64) byte {
	t.Helper()
	d, err := s.Open(t.Context(), name, snapshot.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var p [1]byte
	if err := d.ReadAt(t.Context(), p[:], c*chunk, 0); err != nil {
		t.Fatal(err)
	}
	return p[0]
}

// The example of the thread "Shared snapshots": there are the snapshots 1 to 5
// and 3 is written. When the origin is written too, the first kinds of stores
// need two copies, one for 1 and 2 and one for 4 and 5. By default one does for
// all four.
func TestExampleOfTheThread(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		share  string
		copies int64
	}{{"exact", 2}, {"refs", 1}} {
		t.Run(x.share, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := memory(t, snapshot.Options{Policy: snapshot.CopyOut, Args: map[string]string{"share": x.share}})
			copies(t, s, s.Origin(), 7, 'o')
			names := []string{"1", "2", "3", "4", "5"}
			for _, name := range names {
				if err := s.Create(ctx, name, snapshot.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			three, err := s.Open(ctx, "3", snapshot.OpenOptions{Write: true})
			if err != nil {
				t.Fatal(err)
			}
			copies(t, s, three, 7, '3')
			if err := three.Close(); err != nil {
				t.Fatal(err)
			}
			if got := copies(t, s, s.Origin(), 7, 'n'); got != x.copies {
				t.Errorf("%d copies, expected %d", got, x.copies)
			}
			if st := s.Stats().Store; st.Data != (1+x.copies)*chunk {
				t.Errorf("there are %d bytes on the store, expected that of 3 and %d copies", st.Data, x.copies)
			}
			usage, err := s.Usage(ctx, names...)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []snapshot.Usage{{Shared: chunk}, {Shared: chunk}, {Exclusive: chunk}, {Shared: chunk}, {Shared: chunk}} {
				if usage[i] != want {
					t.Errorf("snapshot %s uses %+v, expected %+v", names[i], usage[i], want)
				}
				if got := first(t, s, names[i], 7); got != "oo3oo"[i] {
					t.Errorf("snapshot %s has %q", names[i], got)
				}
			}
			// Without 4 the copy of 4 and 5 is that of 5 alone, if it is one.
			if err := s.Delete(ctx, "4"); err != nil {
				t.Fatal(err)
			}
			if u, err := s.Usage(ctx, "5"); err != nil || (u[0].Exclusive == chunk) != (x.share == "exact") {
				t.Errorf("without 4, 5 uses %+v, %v", u, err)
			}
		})
	}
}

// Without writes to snapshots there is never more than one copy, whatever their
// number.
func TestOneCopyForAll(t *testing.T) {
	t.Parallel()
	for _, share := range []string{"exact", "refs"} {
		s := memory(t, snapshot.Options{Policy: snapshot.CopyOut, Args: map[string]string{"share": share}})
		for n := range int64(200) {
			if err := s.Create(t.Context(), fmt.Sprint(n), snapshot.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, c := range []int64{n, 255} { // one that all share, one that is new each time
				if got := copies(t, s, s.Origin(), c, byte(n)); got != 1 {
					t.Errorf("%s: with %d snapshots the first write to chunk %d costs %d copies", share, n+1, c, got)
				}
				if got := copies(t, s, s.Origin(), c, byte(n)); got != 0 {
					t.Errorf("%s: with %d snapshots the second write to chunk %d costs %d copies", share, n+1, c, got)
				}
			}
		}
	}
}
