package snapshot_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// TestViews: the origin shows its snapshots as views, which are read-only
// unless the options say something else.
func TestViews(t *testing.T) {
	t.Parallel()
	for _, writable := range []bool{false, true} {
		s := newSet(t, snapshot.Options{Writable: writable}, 32768, 4<<20)
		o := s.Origin().(block.Viewer)
		for _, name := range []string{"b", "a"} {
			if err := s.Create(t.Context(), name, snapshot.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if names, err := o.Views(t.Context()); err != nil || !slices.Equal(names, []string{"b", "a"}) {
			t.Errorf("the views are %q, %v", names, err)
		}
		v, err := o.View(t.Context(), "a", false)
		if err != nil {
			t.Fatal(err)
		}
		w, err := o.View(t.Context(), "b", true)
		if err != nil {
			t.Fatal(err)
		}
		if v.Info().ReadOnly == writable || v.ID == w.ID {
			t.Errorf("writable %v: %+v, IDs %s and %s", writable, v.Info(), v.ID, w.ID)
		}
		if err := s.Delete(t.Context(), "a"); !errors.Is(err, snapshot.ErrBusy) {
			t.Errorf("a view that is open was deleted: %v", err)
		}
		if err := errors.Join(v.Close(), w.Close(), s.Rename(t.Context(), "a", "c")); err != nil {
			t.Fatal(err)
		}
		again, err := o.View(t.Context(), "c", false)
		if err != nil || again.ID != v.ID {
			t.Errorf("after renaming: ID %s, was %s, %v", again.ID, v.ID, err)
		}
		again.Close()
		if _, err := o.View(t.Context(), "a", false); !errors.Is(err, block.ErrNoView) {
			t.Errorf("a view that there is not: %v", err)
		}
	}
}

// TestOpenCreates: with that option a view that does not exist is made, but
// not by those who only ask.
func TestOpenCreates(t *testing.T) {
	t.Parallel()
	s := newSet(t, snapshot.Options{OpenCreates: true}, 32768, 4<<20)
	o := s.Origin().(block.Viewer)
	if _, err := o.View(t.Context(), "new", true); !errors.Is(err, block.ErrNoView) {
		t.Errorf("a probe of a view that does not exist: %v", err)
	}
	v, err := o.View(t.Context(), "new", false)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if l := s.List(); len(l) != 1 || l[0].Name != "new" || !l[0].Open {
		t.Errorf("the snapshots are %+v", l)
	}
}

// TestNames has the text of every error about names.
func TestNames(t *testing.T) {
	t.Parallel()
	s := newSet(t, snapshot.Options{}, 32768, 4<<20)
	create := func(name string) error { return s.Create(t.Context(), name, snapshot.CreateOptions{}) }
	if err := create("monday"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"":                       "the name of a snapshot is empty: invalid argument",
		strings.Repeat("x", 256): "the name of a snapshot has 256 bytes, at most 255 are allowed: invalid argument",
		"monday":                 `snapshot "monday": the name is in use`,
		"a@b":                    `the name "a@b" must have neither @ nor /: invalid argument`,
		"a/b":                    `the name "a/b" must have neither @ nor /: invalid argument`,
		"a\nb":                   `the name "a\nb" is not text: invalid argument`,
	} {
		if err := create(name); err == nil || err.Error() != want {
			t.Errorf("creating %q: %v, want %s", name, err, want)
		}
		if name == "monday" {
			continue
		}
		if err := s.Rename(t.Context(), "monday", name); err == nil || err.Error() != want {
			t.Errorf("renaming to %q: %v, want %s", name, err, want)
		}
	}
}

// TestChangedSince: a metadata context for each snapshot tells what changed.
func TestChangedSince(t *testing.T) {
	t.Parallel()
	s := newSet(t, snapshot.Options{}, 32768, 4<<20)
	o := s.Origin()
	if c := o.Info().Contexts; len(c) != 0 {
		t.Errorf("without snapshots there are the contexts %q", c)
	}
	for i, name := range []string{"a", "b"} {
		if err := s.Create(t.Context(), name, snapshot.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		write(t, o, int64(i+1)*8192, 100, uint64(i+1))
	}
	if c := o.Info().Contexts; !slices.Equal(c, []string{"strata:changed-since:a", "strata:changed-since:b"}) {
		t.Errorf("the contexts are %q", c)
	}
	changes := func(d block.Device, mc string, off, n int64) string {
		var text []string
		for e, err := range d.Extents(t.Context(), mc, off, n) {
			if err != nil {
				return err.Error()
			}
			text = append(text, fmt.Sprintf("%d+%d:%d", e.Off, e.Len, e.Status))
		}
		return strings.Join(text, " ")
	}
	b, err := s.Open(t.Context(), "b", snapshot.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dev    block.Device
		mc     string
		off, n int64
		want   string
	}{
		{o, "strata:changed-since:a", 0, 32768, "0+8192:0 8192+4096:1 12288+4096:0 16384+4096:1 20480+12288:0"},
		{o, "strata:changed-since:b", 1000, 20000, "1000+15384:0 16384+4096:1 20480+520:0"},
		{b, "strata:changed-since:a", 8000, 200, "8000+192:0 8192+8:1"},
		{b, "strata:changed-since:b", 0, 32768, "0+32768:0"},
		{o, "strata:changed-since:c", 0, 1, `changes since "c": no such snapshot`},
		{o, "strata:changed-since:", 0, 1, `changes since "": no such snapshot`},
		{o, "strata:other", 0, 1, `metadata context "strata:other" is not known here: invalid argument`},
	} {
		if got := changes(tt.dev, tt.mc, tt.off, tt.n); got != tt.want {
			t.Errorf("%s of %d+%d: %s, want %s", tt.mc, tt.off, tt.n, got, tt.want)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := changes(b, "strata:changed-since:a", 0, 1); got != block.ErrClosed.Error() {
		t.Errorf("a closed device answered %s", got)
	}
}

// TestStatsTellTheTask: the statistics say what the background work is about.
func TestStatsTellTheTask(t *testing.T) {
	t.Parallel()
	s := newSet(t, snapshot.Options{Policy: snapshot.CopyOut}, 32768, 4<<20)
	create(t, s, "a", snapshot.CreateOptions{})
	write(t, s.Origin(), 0, 32768, 1)
	if err := s.Rollback(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.RollingBack != "a" || !st.Rollback.More || st.Rollback.Total != 8 {
		t.Errorf("during the rollback: %+v", st)
	}
	for {
		p, err := s.Work(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); p.More && st.RollingBack != "" && st.Task != snapshot.Merging {
			t.Errorf("a step of the rollback was %s", st.Task)
		}
		if !p.More {
			break
		}
	}
	if st := s.Stats(); st.RollingBack != "" || st.Task != snapshot.Idle || st.Suspended {
		t.Errorf("after the rollback: %+v", st)
	}
	if err := s.Suspend(t.Context()); err != nil || !s.Stats().Suspended {
		t.Errorf("suspended: %v, %+v", err, s.Stats())
	}
}
