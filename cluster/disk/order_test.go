package disk

import (
	"context"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// flushless is a device whose flush fails while it is told so.
type flushless struct {
	block.Pass
	fails bool
}

func (d *flushless) Flush(ctx context.Context) error {
	if d.fails {
		return errFile
	}
	return d.Pass.Flush(ctx)
}

func (d *flushless) Close() error { return nil }

// flushless makes the slab such a device.
func (l *lab) flushless() *flushless {
	slab := &flushless{Pass: block.Pass{Device: block.FromBytes(l.bytes)}}
	l.wrapSlab = func(block.Device) block.Device { return slab }
	return slab
}

// A place that moves from one version to another, and is freed then, both before
// a flush succeeds, is free once.
func TestMovedAndFreedAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	slab := l.flushless()
	l.open()
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 3), 0))
	l.ok(l.Flush(ctx))
	head := at(0, l.trees.add(1, 1))
	l.trees.doom(1, 1)
	step, err := l.Delete(ctx, 1, 1, 0, Cursor{}, 10)
	if err != nil || step.Moved != 3 {
		t.Fatal(step, err)
	}
	// A barrier is needed only if something was written.
	l.ok(l.Write(ctx, head, fill(2, 1), BlockSize))
	slab.fails = true
	if err := l.Flush(ctx); !errors.Is(err, errFile) {
		t.Fatal(err)
	}
	l.ok(l.Zero(ctx, head, 0, 2*BlockSize))
	slab.fails = false
	l.ok(l.Flush(ctx))
	l.checked(true)
	l.want(head, 0, append(make([]byte, 2*BlockSize), fill(1, 3)[2*BlockSize:]...))
}

// What was being overwritten when an object was removed is no rot when the power
// fails before that is durable, whatever else became durable.
func TestRemoveAndPowerCut(t *testing.T) {
	t.Parallel()
	states := blocktest.EveryCut(t, func(machine *blocktest.Machine) (work, check func() error) {
		c := newComputer(machine, minSlab+1<<20)
		l := c.lab(t)
		l.trees.add(1, 0)
		_, err := Format(t.Context(), l.config(), false)
		work = func() error {
			if err == nil {
				err = l.tryOpen()
			}
			if err != nil {
				return err
			}
			ctx := t.Context()
			return errors.Join(
				l.Write(ctx, at(0, 1), fill(1, 4), 0), l.Flush(ctx),
				l.Write(ctx, at(0, 1), fill(2, 4), 0),
				l.Remove(ctx, Object{1, 0}),
				l.Write(ctx, at(1, 1), fill(3, 1), 0), l.Flush(ctx), l.Close())
		}
		check = func() error {
			c.restart()
			if err := l.tryOpen(); err != nil {
				return err
			}
			_, err := l.check(true)
			err = errors.Join(err, l.Close())
			l.Disk = nil
			return err
		}
		return work, check
	})
	t.Logf("%d states", states)
}

// The mark of an object that was removed goes with it, unless it is written
// again.
func TestRemovedIsNotDirty(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	dirty := func() (n int) {
		for _, err := range l.Dirty(ctx, 0, lastHash) {
			l.ok(err)
			n++
		}
		return n
	}
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.ok(l.Remove(ctx, Object{1, 0}))
	l.ok(l.Flush(ctx))
	if n := dirty(); n != 0 {
		t.Errorf("%d objects are dirty after one was removed", n)
	}
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.ok(l.Remove(ctx, Object{1, 0}))
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.ok(l.Zero(ctx, at(0, 1), 0, BlockSize))
	l.ok(l.Flush(ctx))
	if n := dirty(); n != 1 {
		t.Errorf("%d objects are dirty after one was written again", n)
	}
	l.ok(l.Remove(ctx, Object{1, 0}))
	l.ok(l.Flush(ctx))
	if n := dirty(); n != 0 {
		t.Errorf("%d objects are dirty after one without entries was removed", n)
	}
	l.checked(true)
}

// While the slab cannot be flushed, what is kept in memory for that is bounded:
// writes are refused with its error, and go on when it can.
func TestWritesWithoutFlush(t *testing.T) {
	t.Parallel()
	l := newLab(t, minSlab+16<<20)
	l.trees.add(1, 0)
	slab := l.flushless()
	slab.fails = true
	const limit = 2 * pieceBlocks
	l.adjust = func(c *Config) { c.MaxUnflushed = limit }
	l.open()
	ctx := t.Context()
	refused := 0
	for i := range int64(10 * limit) {
		err := l.Write(ctx, at(0, 1), fill(1, 1), i*pieceSize)
		if err != nil && !errors.Is(err, errFile) {
			t.Fatal(err)
		}
		if err != nil {
			refused++
		}
	}
	r, err := l.hold(at(0, 1), nil)
	l.ok(err)
	r.o.mu.Lock()
	if n := len(r.o.changed) + len(r.o.captured); n > limit+1 {
		t.Errorf("%d pieces are kept in memory, expected %d at most", n, limit+1)
	}
	r.o.mu.Unlock()
	r.end()
	if refused < 8*limit {
		t.Errorf("%d writes were refused", refused)
	}
	l.flusher.wait()
	slab.fails = false
	l.ok(l.Write(ctx, at(0, 1), fill(2, 1), 0))
	l.ok(l.Flush(ctx))
	l.want(at(0, 1), 0, fill(2, 1))
	l.checked(true)
}

// The state of an object that has no entries any more, and was forgotten by the
// cache, is not taken for the one it had before.
func TestCounterOfNothing(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	id := Object{1, 0}
	before, err := l.State(ctx, id)
	if err != nil || before != (State{}) {
		t.Fatal(before, err)
	}
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.ok(l.Zero(ctx, at(0, 1), 0, BlockSize))
	l.ok(l.Flush(ctx))
	forget := func() {
		s := l.cache.of(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unlink(s.objects[id])
		s.weight -= s.objects[id].counted
		delete(s.objects, id)
	}
	forget()
	if cleared, err := l.Clear(ctx, id, before); cleared || err != nil {
		t.Fatal(cleared, err)
	}
	after, err := l.State(ctx, id)
	if err != nil || after.Digest != 0 || after == before {
		t.Fatal(after, err)
	}
	if cleared, err := l.Clear(ctx, id, after); !cleared || err != nil {
		t.Fatal(cleared, err)
	}
	forget()
	if s, err := l.State(ctx, id); err != nil || s != (State{}) {
		t.Fatal(s, err)
	}
	l.checked(true)
}

// Each run has a greater number than those before, and a check is no run.
func TestRun(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	if n := l.Run(); n != 1 {
		t.Errorf("the first run has number %d", n)
	}
	l.reopen()
	l.checked(true)
	if n := l.Run(); n != 2 {
		t.Errorf("the second run has number %d", n)
	}
	l.shut()
	l.checked(true)
	l.open()
	if n := l.Run(); n != 3 {
		t.Errorf("the third run has number %d", n)
	}
}

// What overwrites blocks is made durable together with what is said of it: when the slab
// cannot be flushed meanwhile, that is not lost, and counts only when it can.
func TestOverwriteWithoutFlush(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	slab := l.flushless()
	l.open()
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 3), 0))
	l.ok(l.Flush(ctx))
	slab.fails = true
	l.ok(l.Write(ctx, at(0, 1), fill(2, 2), 0))
	for range 2 {
		if err := l.Flush(ctx); !errors.Is(err, errFile) {
			t.Fatal(err)
		}
	}
	// What was tried to make durable is not known to be so.
	s, err := l.State(ctx, Object{1, 0})
	l.ok(err)
	if cleared, err := l.Clear(ctx, Object{1, 0}, s); cleared || err != nil {
		t.Error(cleared, err)
	}
	// New places wait for the slab again.
	l.ok(l.Write(ctx, at(0, 1), fill(3, 1), 5*BlockSize))
	if err := l.Flush(ctx); !errors.Is(err, errFile) {
		t.Fatal(err)
	}
	slab.fails = false
	l.ok(l.Flush(ctx))
	if cleared, err := l.Clear(ctx, Object{1, 0}, s); cleared || err != nil {
		t.Error("cleared in a state that it does not have any more:", err)
	}
	l.checked(true)
	l.want(at(0, 1), 0, append(append(fill(2, 2), fill(1, 3)[2*BlockSize:]...), make([]byte, 2*BlockSize)...))
	l.want(at(0, 1), 5*BlockSize, fill(3, 1))
}

// A metadata store that stands still while something is flushed shows what is flushed
// before what: places that are new are not named before what they have is durable.
func TestNewPlacesWait(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	slab := &flushHook{Pass: block.Pass{Device: block.FromBytes(l.bytes)}}
	l.wrapSlab = func(block.Device) block.Device { return slab }
	l.open()
	ctx := t.Context()
	named := func() bool {
		found, err := l.meta.get(pieceKey(nil, Object{1, 0}, 0, 1), func([]byte) error { return nil })
		l.ok(err)
		return found
	}
	early := false
	slab.flush = func() { early = named() }
	l.ok(l.Write(ctx, at(0, 1), fill(1, 3), 0))
	l.ok(l.Flush(ctx))
	if early {
		t.Error("a new place is named before the slab is flushed")
	}
	if !named() {
		t.Error("the flush has ended, and nothing is named")
	}
}

// flushHook calls flush before each one.
type flushHook struct {
	block.Pass
	flush func()
}

func (d *flushHook) Flush(ctx context.Context) error {
	if d.flush != nil {
		d.flush()
	}
	return d.Pass.Flush(ctx)
}

func (d *flushHook) Close() error { return nil }
