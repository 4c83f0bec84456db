package disk

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
)

// costs counts what a disk does to its slab and to its log.
type costs struct {
	blocktest.Counts
	// syncs are those of files, logged the bytes written to the log.
	syncs, logged int64
}

// A meter is a lab that counts.
type meter struct {
	*lab
	slab          *blocktest.Disk
	syncs, logged atomic.Int64
}

func newMeter(t testing.TB, size int64) *meter {
	m := &meter{lab: &lab{t: t, trees: newForest(), fs: vfs.NewMem()}}
	m.slab = blocktest.NewMachine(1).Disk(block.Info{Size: size})
	m.wrapSlab = func(block.Device) block.Device { return m.slab.Open() }
	m.wrapFS = func(fs vfs.FS) vfs.FS { return &meterFS{fs, m} }
	m.adjust = func(c *Config) { c.Cache, c.MetaCache = 16<<20, 32<<20 }
	if _, err := Format(t.Context(), m.config(), false); err != nil {
		t.Fatal(err)
	}
	m.trees.add(1, 0)
	m.open()
	return m
}

// of returns what f costs.
func (m *meter) of(f func() error) costs {
	m.t.Helper()
	before, syncs, logged := m.slab.Counts(), m.syncs.Load(), m.logged.Load()
	m.ok(f())
	c := costs{m.slab.Counts(), m.syncs.Load() - syncs, m.logged.Load() - logged}
	c.Reads -= before.Reads
	c.Writes -= before.Writes
	c.Flushes -= before.Flushes
	c.ReadBytes -= before.ReadBytes
	c.WriteBytes -= before.WriteBytes
	return c
}

type meterFS struct {
	vfs.FS
	m *meter
}

func (f *meterFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err == nil && strings.HasSuffix(name, ".log") {
		return &meterFile{file, f.m}, nil
	}
	return file, err
}

type meterFile struct {
	vfs.File
	m *meter
}

func (f *meterFile) Write(p []byte) (int, error) {
	f.m.logged.Add(int64(len(p)))
	return f.File.Write(p)
}

func (f *meterFile) Sync() error     { f.m.syncs.Add(1); return f.File.Sync() }
func (f *meterFile) SyncData() error { f.m.syncs.Add(1); return f.File.SyncData() }

// Overwriting a block costs one write of it; a flush one barrier and one sync of
// a batch that is small; the first write after a snapshot what any write costs,
// and not a copy of the object.
func TestCosts(t *testing.T) {
	t.Parallel()
	m := newMeter(t, minSlab+16<<20)
	ctx := t.Context()
	one := fill(1, 1)
	head := at(0, 1)
	write := func() error { return m.Write(ctx, head, one, 77*BlockSize) }
	flush := func() error { return m.Flush(ctx) }

	if c := m.of(func() error { return m.Write(ctx, head, fill(1, 1024), 0) }); c.Writes != 4 || c.WriteBytes != 4<<20 || c.Reads != 0 || c.syncs != 1 {
		t.Errorf("the first write of an object: %+v", c)
	}
	m.ok(flush())
	if c := m.of(flush); c != (costs{}) {
		t.Errorf("flushing nothing: %+v", c)
	}
	overwrite := m.of(write)
	if want := (costs{Counts: blocktest.Counts{Writes: 1, WriteBytes: BlockSize}}); overwrite != want {
		t.Errorf("overwriting a block: %+v", overwrite)
	}
	c := m.of(flush)
	if c.Flushes != 1 || c.syncs != 1 || c.Writes+c.Reads != 0 || c.logged > 300 {
		t.Errorf("flushing it: %+v", c)
	}
	head.Version = m.trees.add(1, 1)
	if c := m.of(write); c != overwrite {
		t.Errorf("the first write after a snapshot: %+v, an overwrite: %+v", c, overwrite)
	}
	if c := m.of(flush); c.Flushes != 1 || c.syncs != 1 || c.Writes+c.Reads != 0 || c.logged > 600 {
		t.Errorf("flushing it: %+v", c)
	}
	if c := m.of(func() error { return m.Zero(ctx, head, 0, 4<<20) }); c != (costs{}) {
		t.Errorf("zeroing: %+v", c)
	}
	// Metadata alone need no barrier.
	if c := m.of(flush); c.Flushes != 0 || c.syncs != 1 {
		t.Errorf("flushing it: %+v", c)
	}
	p := make([]byte, 4<<20)
	if c := m.of(func() error { return m.Read(ctx, at(0, 1), p, 0) }); c.Reads != 4 || c.ReadBytes != 4<<20 {
		t.Errorf("reading an object: %+v", c)
	}
	none := func(e *BlockError) bool { t.Error(e); return true }
	if c := m.of(func() error { return m.Verify(ctx, Object{1, 0}, none) }); c.Reads != 4<<20/pieceSize || c.ReadBytes != 4<<20 {
		t.Errorf("verifying an object: %+v", c)
	}
	raw := func() error { return second(m.RawBlocks(ctx, Object{1, 0}, 1, 0, p[:1<<20], nil)) }
	if c := m.of(raw); c.Reads != 1 || c.ReadBytes != 1<<20 {
		t.Errorf("reading it raw: %+v", c)
	}
}

// All who call while a flush is under way share the next one.
func TestFlushIsShared(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	held, free := make(chan struct{}), make(chan struct{})
	slab := &slow{block.Pass{Device: block.FromBytes(l.bytes)}, held, free}
	l.wrapSlab = func(block.Device) block.Device { return slab }
	close(free)
	l.open()
	ctx := t.Context()
	slab.free = make(chan struct{})
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	first := make(chan error)
	go func() { first <- l.Flush(ctx) }()
	<-held
	l.ok(l.Write(ctx, at(0, 1), fill(2, 1), 0))
	r := l.flusher.join(true)
	for range 10 {
		if other := l.flusher.join(true); other != r {
			t.Fatal("two rounds")
		}
	}
	slab.free <- struct{}{}
	l.ok(<-first)
	<-held
	slab.free <- struct{}{}
	<-r.done
	l.ok(r.err)
	if n := l.Stats().Flushes; n != 2 {
		t.Errorf("%d flushes", n)
	}
	close(slab.free)
}

// slow is a device whose flush waits.
type slow struct {
	block.Pass
	held, free chan struct{}
}

func (s *slow) Flush(ctx context.Context) error {
	select {
	case s.held <- struct{}{}:
	case <-s.free:
		return nil
	}
	<-s.free
	return s.Pass.Flush(ctx)
}

// A request for a block whose place is known allocates nothing.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	l := openLab(t, labSize)
	ctx := t.Context()
	p := fill(1, 1)
	l.ok(l.Write(ctx, at(0, 1), p, 0))
	for name, tt := range map[string]struct {
		do    func() error
		limit float64
	}{
		"read":  {func() error { return l.Read(ctx, at(0, 1), p, 0) }, 0},
		"write": {func() error { return l.Write(ctx, at(0, 1), p, 0) }, 0},
	} {
		if n := testing.AllocsPerRun(100, func() { l.ok(tt.do()) }); n > tt.limit {
			t.Errorf("%s: %v allocations, expected %v at most", name, n, tt.limit)
		}
	}
}

// What is overwritten changes no numbers of blocks: they are not written again.
func TestOverwritingLeavesTallies(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	o := Object{1, 0}
	l.ok(l.Write(ctx, at(0, 1), fill(1, 3), 0))
	l.ok(l.Flush(ctx))
	key := tallyKey(nil, o, 1)
	l.ok(l.meta.db.Delete(key, nil)) // so that it is seen whether it is written
	written := func() bool {
		found, err := l.meta.get(key, func([]byte) error { return nil })
		l.ok(err)
		return found
	}
	l.ok(l.Write(ctx, at(0, 1), fill(2, 2), 0))
	l.ok(l.Flush(ctx))
	if written() {
		t.Error("an overwrite writes the tally of its version")
	}
	l.ok(l.Write(ctx, at(0, 1), fill(2, 2), 8*BlockSize))
	l.ok(l.Flush(ctx))
	if !written() {
		t.Error("new blocks do not write the tally of their version")
	}
	l.checked(true)
}
