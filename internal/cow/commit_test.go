package cow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// A changed shelf has a difference file with changes, on the same machine as
// its base and another base of the same size.
type changed struct {
	base, next, diff *blocktest.Disk
	// view is what base with diff reads as.
	view []byte
}

const changedSize = 120_000

// newChanged makes changes of every kind.
func newChanged(t testing.TB, m *blocktest.Machine) *changed {
	t.Helper()
	ctx := t.Context()
	n, err := FileSize(changedSize, 4096)
	if err != nil {
		t.Fatal(err)
	}
	c := &changed{
		base: m.Disk(block.Info{Size: changedSize}),
		next: m.Disk(block.Info{Size: changedSize}),
		diff: m.Disk(block.Info{Size: n, FastZeros: true}),
		view: noise(changedSize),
	}
	base, next := c.base.Open(), c.next.Open()
	// The next base is the old one but for a few places, where it or the
	// old one may have zeros.
	other := bytes.Clone(c.view)
	clear(c.view[32_000:40_000])
	clear(other[36_000:48_000])
	copy(other[80_000:], "something else")
	clear(other[119_000:])
	err = errors.Join(base.WriteAt(ctx, c.view, 0, block.FUA), next.WriteAt(ctx, other, 0, block.FUA))
	if err != nil {
		t.Fatal(err)
	}
	if err := Format(ctx, base, c.diff.Open(), 4096); err != nil {
		t.Fatal(err)
	}
	d, err := Open(ctx, block.Keep(base), c.diff.Open(), false)
	if err != nil {
		t.Fatal(err)
	}
	h := blocktest.Generate(3, block.Info{Size: changedSize}, 20)
	for _, op := range h {
		op.Flags &^= block.NoWait
		if err := blocktest.NewModel(d.Info()).Do(ctx, d, op); err != nil {
			t.Fatal(err)
		}
	}
	for off := int64(0); off < 24_000; off += 5000 {
		if err := d.WriteAt(ctx, []byte("changed"), off, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.ReadAt(ctx, c.view, 0, 0), d.Close()); err != nil {
		t.Fatal(err)
	}
	return c
}

// expect compares what base with the difference file reads as with the view.
func (c *changed) expect(ctx context.Context, base *blocktest.Disk) error {
	d, err := Open(ctx, base.Open(), c.diff.Open(), true)
	if err != nil {
		return err
	}
	return errors.Join(reads(ctx, d, c.view), d.Close())
}

func reads(ctx context.Context, dev block.Device, want []byte) error {
	p := make([]byte, len(want))
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return err
	}
	for i := range p {
		if p[i] != want[i] {
			return fmt.Errorf("byte %d is %02x, want %02x", i, p[i], want[i])
		}
	}
	return nil
}

// committed says what must hold after a commit.
func (c *changed) committed(ctx context.Context) error {
	if err := reads(ctx, c.base.Open(), c.view); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	s, err := Stat(ctx, readOnly(c.diff.Open()))
	if err == nil && (s.Data != 0 || s.Zero != 0 || s.Merging || s.InUse || s.Commits == 0) {
		err = fmt.Errorf("after the commit: %+v", s)
	}
	return errors.Join(err, c.expect(ctx, c.base))
}

func TestCommit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newChanged(t, blocktest.NewMachine(1))
	last := int64(0)
	progress := func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}
	if err := Commit(ctx, c.base.Open(), c.diff.Open(), progress); err != nil {
		t.Fatal(err)
	}
	if err := c.committed(ctx); err != nil {
		t.Error(err)
	}
	if last == 0 {
		t.Error("no progress")
	}
	// Once more, with new changes and without.
	d, err := Open(ctx, c.base.Open(), c.diff.Open(), false)
	if err != nil {
		t.Fatal(err)
	}
	copy(c.view[5000:], "more changes")
	if err := errors.Join(d.WriteAt(ctx, []byte("more changes"), 5000, 0), d.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Commit(ctx, c.base.Open(), c.diff.Open(), nil); err != nil {
			t.Fatal(err)
		}
		if err := c.committed(ctx); err != nil {
			t.Error(err)
		}
	}
}

// The base with the difference file reads the same whenever the power goes
// during a commit, which can be done again.
func TestCommitPowerCuts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	blocktest.EveryCut(t, func(m *blocktest.Machine) (work, check func() error) {
		c := newChanged(t, m)
		work = func() error { return Commit(ctx, c.base.Open(), c.diff.Open(), nil) }
		check = func() error {
			if err := c.expect(ctx, c.base); err != nil {
				return err
			}
			if err := work(); err != nil {
				return err
			}
			return c.committed(ctx)
		}
		return work, check
	})
}

func TestCommitFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	blocktest.EachFault(t, func(f *blocktest.Faults) error {
		c := newChanged(t, blocktest.NewMachine(1))
		_ = Commit(ctx, f.Wrap(c.base.Open()), f.Wrap(c.diff.Open()), nil)
		f.Stop()
		if err := c.expect(ctx, c.base); err != nil {
			return err
		}
		if err := Commit(ctx, c.base.Open(), c.diff.Open(), nil); err != nil {
			return err
		}
		return c.committed(ctx)
	})
}

// A cancelled commit has done no harm, and more can be written before it is
// done again.
func TestCommitCancelled(t *testing.T) {
	t.Parallel()
	c := newChanged(t, blocktest.NewMachine(1))
	ctx, cancel := context.WithCancel(t.Context())
	err := Commit(ctx, c.base.Open(), c.diff.Open(), func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ctx = t.Context()
	if err := c.expect(ctx, c.base); err != nil {
		t.Fatal(err)
	}
	if err := Rebase(ctx, c.base.Open(), c.diff.Open(), c.next.Open(), nil); err == nil ||
		err.Error() != "a commit of the difference file was interrupted and must be finished first: invalid argument" {
		t.Error("rebase:", err)
	}
	d, err := Open(ctx, c.base.Open(), c.diff.Open(), false)
	if err != nil {
		t.Fatal(err)
	}
	copy(c.view[60_000:], "meanwhile")
	if err := errors.Join(d.WriteAt(ctx, []byte("meanwhile"), 60_000, 0), d.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Commit(ctx, c.base.Open(), c.diff.Open(), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.committed(ctx); err != nil {
		t.Error(err)
	}
}

func TestCommitReadOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newChanged(t, blocktest.NewMachine(1))
	err := Commit(ctx, readOnly(c.base.Open()), c.diff.Open(), nil)
	if !errors.Is(err, block.ErrReadOnly) || err.Error() != "the base is read-only, a commit writes to it: read-only file system" {
		t.Error(err)
	}
	err = Commit(ctx, c.base.Open(), readOnly(c.diff.Open()), nil)
	if !errors.Is(err, block.ErrReadOnly) || err.Error() != "the difference file is read-only, a commit writes to it: read-only file system" {
		t.Error(err)
	}
}

func TestRebase(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newChanged(t, blocktest.NewMachine(1))
	last, all := int64(0), int64(0)
	err := Rebase(ctx, c.base.Open(), c.diff.Open(), c.next.Open(), func(done, total int64) { last, all = done, total })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.expect(ctx, c.next); err != nil {
		t.Error(err)
	}
	if err := c.expect(ctx, c.base); !errors.Is(err, ErrOtherBase) {
		t.Error("on the old base:", err)
	}
	if last != changedSize || all != changedSize {
		t.Errorf("progress ended at %d of %d", last, all)
	}
}

// Until a rebase is done the difference file belongs to the old base, and reads
// the same on it.
func TestRebasePowerCuts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	blocktest.EveryCut(t, func(m *blocktest.Machine) (work, check func() error) {
		c := newChanged(t, m)
		work = func() error { return Rebase(ctx, c.base.Open(), c.diff.Open(), c.next.Open(), nil) }
		check = func() error {
			err := c.expect(ctx, c.base)
			if errors.Is(err, ErrOtherBase) {
				return c.expect(ctx, c.next)
			}
			if err != nil {
				return err
			}
			if err := work(); err != nil {
				return err
			}
			return c.expect(ctx, c.next)
		}
		return work, check
	})
}

func TestRebaseUnchecked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newChanged(t, blocktest.NewMachine(1))
	if err := c.expect(ctx, c.next); !errors.Is(err, ErrOtherBase) {
		t.Fatal(err)
	}
	if err := RebaseUnchecked(ctx, c.diff.Open(), c.next.Open()); err != nil {
		t.Fatal(err)
	}
	d, err := Open(ctx, c.next.Open(), c.diff.Open(), true)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 14)
	if err := errors.Join(d.ReadAt(ctx, p, 80_000, 0), d.Close()); err != nil || string(p) != "something else" {
		t.Errorf("%q %v", p, err)
	}
	small := blocktest.NewMachine(1).Disk(block.Info{Size: 1 << 20}).Open()
	err = RebaseUnchecked(ctx, c.diff.Open(), small)
	if err == nil || err.Error() != "the new base has 1048576 bytes, must have 120000 as the old one: invalid argument" {
		t.Error(err)
	}
}
