package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// playFaulty plays a history on a disk whose requests may fail, and then, when
// nothing fails any more, makes sure that it has what it may have.
func (m *model) playFaulty(ctx context.Context, l *lab, steps int, stop func()) error {
	if err := l.tryOpen(); err == nil {
		for range steps {
			if err := m.step(ctx); err != nil {
				m.note("%v", err)
			}
		}
		failed := l.Err() != nil
		if !failed {
			stop()
			if err := m.settled(ctx, l); err != nil {
				return err
			}
			if err := m.flush(ctx, l); err != nil {
				return fmt.Errorf("nothing fails, but: %w", err)
			}
			if _, err := l.check(true); err != nil {
				return err
			}
		}
		if err := l.Close(); err != nil && !failed {
			return fmt.Errorf("closing: %w", err)
		}
	}
	l.Disk = nil
	stop()
	if err := l.tryOpen(); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	if _, err := l.check(true); err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	if err := m.settled(ctx, l); err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	err := l.Close()
	l.Disk = nil
	return err
}

// settled mends what is unfinished and compares everything with what may be
// there.
func (m *model) settled(ctx context.Context, l *lab) error {
	for o, err := range l.Dirty(ctx, 0, lastHash) {
		if err == nil && o.Unsettled {
			err = settle(ctx, l, o.Object)
		}
		if err != nil {
			return err
		}
	}
	clear(m.unsure)
	for k, c := range m.images {
		got := make([]byte, modelObject)
		if err := l.Read(ctx, k.at(), got, 0); err != nil {
			return err
		}
		if _, err := c.survived(got); err != nil {
			return fmt.Errorf("%v: %w", k.at(), err)
		}
	}
	return nil
}

// Every request to the slab fails once, and every flush too.
func TestSlabFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(times(2)) {
		blocktest.EachFault(t, func(f *blocktest.Faults) error {
			l := newLab(t, minSlab+4<<20)
			l.wrapSlab = func(dev block.Device) block.Device { return f.Wrap(dev) }
			m := newModel(seed, l.trees, l)
			m.unsure = map[image]bool{}
			return m.explain(m.playFaulty(t.Context(), l, 25, f.Stop))
		})
	}
}

// A failer makes one of a number of calls fail, and all after it if sticky.
type failer struct {
	mu         sync.Mutex
	left       int
	sticky     bool
	fired, off bool
}

var errFile = errors.New("the file system says no")

func (f *failer) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return nil
	}
	f.left--
	if f.left == 0 || f.left < 0 && f.sticky {
		f.fired = true
		return errFile
	}
	return nil
}

func (f *failer) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// Every change of the files of the metadata fails once. The disk fails, and says
// so, and has everything that was flushed when it is opened again.
func TestFileFaults(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		f := &failer{left: n, sticky: n%2 == 0}
		l := newLab(t, minSlab+4<<20)
		l.wrapFS = func(fs vfs.FS) vfs.FS {
			return &hookFS{FS: fs, change: func(do func() error) error {
				if err := f.err(); err != nil {
					return err
				}
				return do()
			}}
		}
		m := newModel(uint64(n%3), l.trees, l)
		m.unsure = map[image]bool{}
		stop := func() {
			if f.fired && l.Disk != nil {
				t.Errorf("change %d failed, and the disk has not", n)
			}
			f.stop()
		}
		if err := m.explain(m.playFaulty(t.Context(), l, 20, stop)); err != nil {
			t.Fatalf("change %d of the files: %v", n, err)
		}
		if !f.fired {
			t.Logf("%d changes failed", n-1)
			return
		}
	}
}

// Every read of the files of the metadata fails once.
func TestFileReadFaults(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		f := &failer{left: n}
		l := newLab(t, minSlab+4<<20)
		l.wrapFS = func(fs vfs.FS) vfs.FS {
			return &hookFS{FS: fs, change: func(do func() error) error { return do() }, read: f.err}
		}
		m := newModel(uint64(n%3), l.trees, l)
		m.unsure = map[image]bool{}
		// Something to read.
		f.off = true
		l.ok(l.tryOpen())
		for range 20 {
			l.ok(m.step(t.Context()))
		}
		l.ok(m.flush(t.Context(), l))
		l.ok(l.Close())
		f.off = false
		if err := m.explain(m.playFaulty(t.Context(), l, 10, f.stop)); err != nil {
			t.Fatalf("read %d of the files: %v", n, err)
		}
		if !f.fired {
			t.Logf("%d reads failed", n-1)
			return
		}
	}
}

// A disk that has failed refuses everything, and can be closed.
func TestFailedDisk(t *testing.T) {
	t.Parallel()
	f := &failer{left: -1}
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	l.wrapFS = func(fs vfs.FS) vfs.FS {
		return &hookFS{FS: fs, change: func(do func() error) error {
			if err := f.err(); err != nil {
				return err
			}
			return do()
		}}
	}
	l.open()
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 2), 0))
	l.ok(l.Flush(ctx))
	l.ok(l.Write(ctx, at(0, 1), fill(2, 1), 0))
	f.mu.Lock()
	f.left, f.sticky = 1, true
	f.mu.Unlock()
	if err := l.Flush(ctx); !errors.Is(err, ErrFailed) || !errors.Is(err, errFile) {
		t.Fatalf("flush: %v", err)
	}
	p := make([]byte, BlockSize)
	for name, err := range map[string]error{
		"read":   l.Read(ctx, at(0, 1), p, 0),
		"write":  l.Write(ctx, at(0, 1), p, 0),
		"zero":   l.Zero(ctx, at(0, 1), 0, 1),
		"flush":  l.Flush(ctx),
		"state":  second(l.State(ctx, Object{1, 0})),
		"clear":  second(l.Clear(ctx, Object{1, 0}, State{})),
		"remove": l.Remove(ctx, Object{1, 0}),
		"err":    l.Err(),
		"close":  l.Close(),
	} {
		if !errors.Is(err, ErrFailed) && !errors.Is(err, block.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.Disk = nil
	f.stop()
	l.open()
	l.want(at(0, 1), BlockSize, fill(1, 2)[BlockSize:])
	if c := l.checked(true); c.Unfinished > 1 {
		t.Errorf("%+v", c)
	}
}

// A write that fails half way leaves old and new sectors that can be read, and a
// block of the slab that cannot be read is named, and repaired.
func TestBadSectors(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	slab := &bad{Pass: block.Pass{Device: block.FromBytes(l.bytes)}}
	l.wrapSlab = func(block.Device) block.Device { return slab }
	l.open()
	ctx := t.Context()
	old, young := fill(1, 8), fill(101, 8)
	l.ok(l.Write(ctx, at(0, 1), old, 0))
	l.ok(l.Flush(ctx))
	slab.write = offset(3) + 1024
	if err := l.Write(ctx, at(0, 1), young, 0); !errors.Is(err, errFile) {
		t.Fatal(err)
	}
	slab.write = 0
	half := int(3*BlockSize + 1024)
	l.want(at(0, 1), 0, append(append([]byte(nil), young[:half]...), old[half:]...))
	l.ok(l.Flush(ctx))
	l.checked(true)

	slab.read = offset(5)
	p := make([]byte, 8*BlockSize)
	var e *BlockError
	if err := l.Read(ctx, at(0, 1), p, 0); !errors.As(err, &e) || e.Block != 5 || e.Version != 1 || e.Sum != checksum(old[5*BlockSize:6*BlockSize]) || !errors.Is(err, errFile) {
		t.Fatalf("%v %+v", err, e)
	}
	var all []*BlockError
	l.ok(l.Verify(ctx, Object{1, 0}, func(e *BlockError) bool { all = append(all, e); return true }))
	if len(all) != 1 || all[0].Block != 5 {
		t.Fatal(all)
	}
	fix := Fix{Was: Entry{1, 5, Data, e.Sum}, Kind: Data, Data: old[5*BlockSize : 6*BlockSize]}
	if n, err := l.Repair(ctx, Object{1, 0}, 0, []Fix{fix}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	l.want(at(0, 1), 4*BlockSize, old[4*BlockSize:])

	// Nothing can be read after the write has failed.
	slab.write, slab.read = offset(0)+1, offset(0)
	if err := l.Write(ctx, at(0, 1), fill(201, 1), 0); !errors.Is(err, errFile) {
		t.Fatal(err)
	}
	slab.write, slab.read = 0, 0
	if err := l.Read(ctx, at(0, 1), p[:1], 0); !errors.Is(err, ErrUnfinished) {
		t.Fatal(err)
	}
	l.reopen()
	if c := l.checked(true); c.Unfinished != 1 {
		t.Errorf("%+v", c)
	}
	l.ok(l.Write(ctx, at(0, 1), fill(211, 1), 0))
	l.want(at(0, 1), 0, fill(211, 1))
}

// bad is a device that can write up to a place only, and not read the block at
// another one.
type bad struct {
	block.Pass
	write, read int64
}

func (d *bad) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if d.write > 0 && off+int64(len(p)) > d.write {
		if off < d.write {
			_ = d.Pass.WriteAt(ctx, p[:d.write-off], off, flags)
		}
		return errFile
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func (d *bad) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if d.read > 0 && off <= d.read && d.read < off+int64(len(p)) {
		return errFile
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *bad) Close() error { return nil }

// A disk whose metadata cannot be read has failed, whoever finds out.
func TestUnreadableMetadata(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*lab) error{
		"read":   func(l *lab) error { return l.Read(t.Context(), at(0, 2), make([]byte, 1), 0) },
		"zero":   func(l *lab) error { return l.Zero(t.Context(), at(0, 2), 0, MaxObject) },
		"delete": func(l *lab) error { return second(l.Delete(t.Context(), 1, 1, 0, Cursor{}, 10)) },
		"check":  func(l *lab) error { return second(l.Check(t.Context(), false, func(error) {})) },
		"list": func(l *lab) error {
			for _, err := range l.List(t.Context(), 0, lastHash) {
				return err
			}
			return nil
		},
		"dirty": func(l *lab) error {
			for _, err := range l.Dirty(t.Context(), 0, lastHash) {
				return err
			}
			return nil
		},
	} {
		f := &failer{off: true}
		l := openLab(t, labSize)
		// Each table has a page of its own, and those of the segments alone are
		// read to open the disk.
		for i := range uint64(300) {
			l.ok(l.Write(t.Context(), at(i, 1), fill(1, 2), pieceSize-BlockSize))
		}
		l.ok(l.Flush(t.Context()))
		l.trees.add(1, 1)
		l.trees.doom(1, 1)
		l.ok(l.meta.db.Flush())
		l.wrapFS = func(fs vfs.FS) vfs.FS {
			return &hookFS{FS: fs, change: func(do func() error) error { return do() }, read: f.err}
		}
		l.reopen()
		f.mu.Lock()
		f.left, f.sticky, f.off = 1, true, false
		f.mu.Unlock()
		if err := do(l); !errors.Is(err, errFile) {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.Err(); !errors.Is(err, ErrFailed) || !errors.Is(err, errFile) {
			t.Errorf("%s: the disk says %v", name, err)
		}
	}
}

// Flushes of the slab fail again and again, so that several rounds become one
// batch, and everything is there when one succeeds.
func TestFlushesFailOften(t *testing.T) {
	t.Parallel()
	for seed := range uint64(times(40)) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var mu sync.Mutex
		off := false
		fails := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return !off && rng.IntN(3) > 0
		}
		l := newLab(t, minSlab+4<<20)
		l.wrapSlab = func(dev block.Device) block.Device { return &moody{block.Pass{Device: dev}, fails} }
		l.adjust = func(c *Config) { c.MaxUnflushed = 8 * pieceBlocks }
		m := newModel(seed, l.trees, l)
		m.unsure = map[image]bool{}
		stop := func() {
			mu.Lock()
			defer mu.Unlock()
			off = true
		}
		if err := m.explain(m.playFaulty(t.Context(), l, 80, stop)); err != nil {
			t.Fatal(err)
		}
	}
}

// moody is a device whose flush may fail.
type moody struct {
	block.Pass
	fails func() bool
}

func (d *moody) Flush(ctx context.Context) error {
	if d.fails() {
		return errFile
	}
	return d.Pass.Flush(ctx)
}
