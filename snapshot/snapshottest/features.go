package snapshottest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// testDevice runs the conformance suite for devices on the views.
func testDevice(t *testing.T, c Config, p snapshot.Policy, caps snapshot.Caps) {
	create := func(view string, write bool) func(t testing.TB) func() block.Device {
		return func(t testing.TB) func() block.Device {
			l := newLab(c, blocktest.NewMachine(1), p)
			s := l.format(t)
			fill(t, s.Origin(), 0, c.Origin, 1)
			must(t, s.Create(t.Context(), "a", snapshot.CreateOptions{}))
			fill(t, s.Origin(), max(c.Chunk/2, int64(c.MinBlock)), 20*c.Chunk, 2)
			if caps.MaxSnapshots != 1 {
				must(t, s.Create(t.Context(), "b", snapshot.CreateOptions{}))
			}
			must(t, s.Close())
			return func() block.Device {
				s, err := l.open(t)
				must(t, err)
				if view == "" {
					return s.Origin()
				}
				d, err := s.Open(t.Context(), s.List()[0].Name, snapshot.OpenOptions{Write: write})
				must(t, err)
				return &owner{block.Pass{Device: d}, s}
			}
		}
	}
	for _, x := range []struct {
		view  string
		write bool
	}{{"", true}, {"a", false}, {"a", true}} {
		if x.view != "" && !caps.Persistent || x.view != "" && x.write && !caps.Writable {
			continue
		}
		t.Run(fmt.Sprintf("%q write=%v", x.view, x.write), func(t *testing.T) {
			t.Parallel()
			make := create(x.view, x.write)
			blocktest.Run(t, func(t testing.TB) block.Device { return make(t)() }, blocktest.Reopen(make), blocktest.Seeds(2))
		})
	}
}

// An owner closes the set together with the view.
type owner struct {
	block.Pass
	set *snapshot.Set
}

func (o *owner) Close() error {
	if err := o.Device.Close(); err != nil {
		return err
	}
	return o.set.Close()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill writes n bytes at off, as far as the device goes.
func fill(t testing.TB, dev block.Device, off, n int64, seed uint64) {
	t.Helper()
	p := make([]byte, min(n, dev.Info().Size-off))
	blocktest.Fill(p, off, seed)
	must(t, dev.WriteAt(t.Context(), p, off, 0))
}

// expect compares a view with what fill wrote.
func expect(t testing.TB, dev block.Device, off, n int64, seed uint64) {
	t.Helper()
	want := make([]byte, min(n, dev.Info().Size-off))
	blocktest.Fill(want, off, seed)
	got := make([]byte, len(want))
	must(t, dev.ReadAt(t.Context(), got, off, 0))
	if string(got) != string(want) {
		t.Errorf("%d bytes at %d are not what was written", n, off)
	}
}

func testNames(t *testing.T, c Config, caps snapshot.Caps) {
	ctx := t.Context()
	l := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut)
	s := l.format(t)
	is := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, expected %v", what, err, want)
		}
	}
	is("empty name", s.Create(ctx, "", snapshot.CreateOptions{}), block.ErrInvalid)
	is("long name", s.Create(ctx, strings.Repeat("x", 256), snapshot.CreateOptions{}), block.ErrInvalid)
	is("no text", s.Create(ctx, "a\nb", snapshot.CreateOptions{}), block.ErrInvalid)
	is("deleting nothing", s.Delete(ctx, "nothing"), snapshot.ErrNoSnapshot)
	is("of nothing", s.Create(ctx, "x", snapshot.CreateOptions{Of: "nothing"}), snapshot.ErrNoSnapshot)
	_, err := s.Open(ctx, "nothing", snapshot.OpenOptions{})
	is("opening nothing", err, snapshot.ErrNoSnapshot)

	fill(t, s.Origin(), 0, c.Origin, 1)
	const odd = "6ba7b810-9dad-11d1-80b4-00c04fd430c8 + Montag ☃"
	d, err := s.Open(ctx, odd, snapshot.OpenOptions{Create: true})
	must(t, err)
	is("a duplicate", s.Create(ctx, odd, snapshot.CreateOptions{}), snapshot.ErrExists)
	is("deleting what is open", s.Delete(ctx, odd), snapshot.ErrBusy)
	fill(t, s.Origin(), 0, c.Origin, 2)
	expect(t, d, 0, c.Origin, 1)
	must(t, d.Close())
	if caps.MaxSnapshots == 1 {
		is("one more", s.Create(ctx, "more", snapshot.CreateOptions{}), snapshot.ErrTooMany)
	}
	name := odd
	if caps.Values {
		name = "7"
		must(t, s.Rename(ctx, odd, name))
		is("the old name", s.Rename(ctx, odd, "x"), snapshot.ErrNoSnapshot)
	}
	if caps.Persistent && caps.Values {
		must(t, s.Close())
		s, err = l.open(t)
		must(t, err)
		if all := s.List(); len(all) != 1 || all[0].Name != name {
			t.Errorf("after reopening there are %v", all)
		}
		d, err := s.Open(ctx, name, snapshot.OpenOptions{})
		must(t, err)
		expect(t, d, 0, c.Origin, 1)
		must(t, d.Close())
		expect(t, s.Origin(), 0, c.Origin, 2)
	}
	must(t, s.Delete(ctx, name))
	must(t, s.Create(ctx, name, snapshot.CreateOptions{}))
	finish(t, s)
	is("after closing", s.Create(ctx, "x", snapshot.CreateOptions{}), block.ErrClosed)
}

// testBad opens stores that are none, or others.
func testBad(t *testing.T, c Config) {
	caps := c.caps(t)
	if !caps.Persistent {
		return
	}
	l := newLab(c, blocktest.NewMachine(1), snapshot.CopyOut)
	if _, err := l.open(t); !errors.Is(err, snapshot.ErrNoStore) {
		t.Errorf("a blank device: %v, expected %v", err, snapshot.ErrNoStore)
	}
	must(t, l.format(t).Close())
	other := *l
	other.origin = l.machine.Disk(block.Info{Size: c.Origin + 1<<20, FastZeros: true})
	if _, err := other.open(t); caps.Values && !errors.Is(err, snapshot.ErrMismatch) {
		t.Errorf("an origin of another size: %v, expected %v", err, snapshot.ErrMismatch)
	}
	other = *l
	other.c.Chunk *= 2
	if _, err := other.open(t); !errors.Is(err, snapshot.ErrMismatch) {
		t.Errorf("another chunk size: %v, expected %v", err, snapshot.ErrMismatch)
	}
	other.c.Chunk = l.c.Chunk
	other.c.Args = map[string]string{"no such argument": "1"}
	if _, err := other.open(t); err == nil {
		t.Log("unknown arguments are accepted")
	}
	s, err := l.open(t)
	must(t, err)
	finish(t, s)
}
