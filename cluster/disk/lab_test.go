package disk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/family"
)

// forest is a Trees for tests.
type forest struct {
	mu       sync.Mutex
	revision uint64
	families map[uint64][]family.Version
	trees    map[uint64]*family.Tree
	last     map[uint64]uint64
}

func newForest() *forest {
	return &forest{families: map[uint64][]family.Version{}, trees: map[uint64]*family.Tree{}, last: map[uint64]uint64{}}
}

func (f *forest) Tree(ctx context.Context, fid, revision uint64) (*family.Tree, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.trees[fid]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("no family %d", fid)
}

// change makes list the versions of a family.
func (f *forest) change(fid uint64, list []family.Version) {
	f.revision++
	t, err := family.New(f.revision, list)
	if err != nil {
		panic(err)
	}
	f.families[fid], f.trees[fid] = list, t
}

// add makes a new version.
func (f *forest) add(fid, parent uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last[fid]++
	f.change(fid, append(slices.Clone(f.families[fid]), family.Version{ID: f.last[fid], Parent: parent}))
	return f.last[fid]
}

// doom makes a version unreadable.
func (f *forest) doom(fid, version uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.Clone(f.families[fid])
	for i := range list {
		if list[i].ID == version {
			list[i].Doomed = true
		}
	}
	f.change(fid, list)
}

// remove takes a version out of the tree, whose children become its parent's.
func (f *forest) remove(fid, version uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []family.Version
	parent := uint64(0)
	for _, v := range f.families[fid] {
		if v.ID == version {
			parent = v.Parent
		}
	}
	for _, v := range f.families[fid] {
		if v.Parent == version {
			v.Parent = parent
		}
		if v.ID != version {
			list = append(list, v)
		}
	}
	f.change(fid, list)
}

func (f *forest) tree(fid uint64) *family.Tree {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trees[fid]
}

// A lab is a disk in memory.
type lab struct {
	t     testing.TB
	trees *forest
	fs    vfs.FS
	bytes []byte
	// wrap is put around the slab and the file system when they are opened.
	wrapSlab func(block.Device) block.Device
	wrapFS   func(vfs.FS) vfs.FS
	adjust   func(*Config)
	*Disk
}

const labSize = minSlab + 2<<20

func newLab(t testing.TB, size int64) *lab {
	l := &lab{t: t, trees: newForest(), fs: vfs.NewMem(), bytes: make([]byte, size)}
	if _, err := Format(t.Context(), l.config(), false); err != nil {
		t.Fatal(err)
	}
	return l
}

// openLab is newLab with the disk open and a family 1 with the version 1.
func openLab(t testing.TB, size int64) *lab {
	l := newLab(t, size)
	l.trees.add(1, 0)
	l.open()
	return l
}

func (l *lab) config() Config {
	slab := block.FromBytes(l.bytes)
	fs := l.fs
	if l.wrapSlab != nil {
		slab = l.wrapSlab(slab)
	}
	if l.wrapFS != nil {
		fs = l.wrapFS(fs)
	}
	cfg := Config{Slab: slab, FS: fs, Dir: "meta", Trees: l.trees, Cache: 64 << 10, MetaCache: 1 << 20}
	if l.adjust != nil {
		l.adjust(&cfg)
	}
	return cfg
}

func (l *lab) tryOpen() (err error) {
	l.Disk, err = Open(l.t.Context(), l.config())
	return err
}

func (l *lab) open() {
	l.t.Helper()
	if err := l.tryOpen(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.shut)
}

// shut closes the disk, if it is open.
func (l *lab) shut() {
	if l.Disk == nil {
		return
	}
	if err := l.Close(); err != nil && !errors.Is(err, ErrFailed) && !errors.Is(err, block.ErrClosed) {
		l.t.Errorf("closing: %v", err)
	}
	l.Disk = nil
}

func (l *lab) reopen() {
	l.t.Helper()
	l.shut()
	l.open()
}

// ok ends the test if there is an error.
func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// at names a version of an object of family 1.
func at(index, version uint64) At { return At{Object: Object{1, index}, Version: version} }

// fill returns n blocks of a value.
func fill(v byte, n int) []byte {
	p := make([]byte, n*BlockSize)
	for i := range p {
		p[i] = v + byte(i/BlockSize)*3
	}
	return p
}

// want reads and compares.
func (l *lab) want(a At, off int64, p []byte) {
	l.t.Helper()
	got := make([]byte, len(p))
	l.ok(l.Read(l.t.Context(), a, got, off))
	for i := range p {
		if got[i] != p[i] {
			l.t.Fatalf("%v at %d: %#x, expected %#x", a, off+int64(i), got[i], p[i])
		}
	}
}

// checked verifies the disk, online, and offline if it is closed.
func (l *lab) checked(data bool) Census {
	l.t.Helper()
	c, err := l.check(data)
	l.ok(err)
	return c
}

func (l *lab) check(data bool) (c Census, err error) {
	var findings []error
	report := func(err error) { findings = append(findings, err) }
	if l.Disk != nil {
		if c, err = l.Check(l.t.Context(), data, report); err == nil {
			err = l.audit()
		}
	} else {
		c, err = Check(l.t.Context(), l.config(), data, report)
	}
	return c, errors.Join(append(findings, err)...)
}

// audit compares what is in memory with the metadata, while nothing happens.
func (d *Disk) audit() error {
	d.space.waitForTrims()
	d.flusher.wait()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	other := newSpace(d.super.blocks(), d.space.reserve, d.loadSegment)
	for seg := range other.free {
		var b bitset
		if err := d.loadSegment(seg, &b); err != nil {
			return err
		}
		other.found(seg, &b)
		if x := d.space.warm[seg]; x != nil && (x.durable != b || x.busy != bitset{} || x.touched) {
			bad("segment %d has other bits in memory, or some that are busy: %x", seg, x.busy)
		}
		if d.space.free[seg] != other.free[seg] {
			bad("segment %d has %d free places, expected %d", seg, d.space.free[seg], other.free[seg])
		}
	}
	if d.space.total != other.total || d.space.used != other.used {
		bad("%d places are free and %d used, expected %d and %d", d.space.total, d.space.used, other.total, other.used)
	}
	if n := d.unflushed.Load(); n != 0 || len(d.list) != 0 || d.batch.b != nil {
		bad("%d views, %d objects are not flushed", n, len(d.list))
	}
	for i := range d.cache.shard {
		s := &d.cache.shard[i]
		weight := int64(0)
		for _, o := range s.objects {
			weight += o.counted
			views := int64(1 + len(o.tallies))
			for _, v := range o.pieces {
				for ; v != nil; v = v.next {
					views++
				}
			}
			if o.refs != 0 || o.writers != 0 || o.listed || views != o.weight.Load() || o.counted != views {
				bad("object %v has %d references, %d writers, weight %d and %d, expected %d", o.Object, o.refs, o.writers, o.weight.Load(), o.counted, views)
			}
		}
		if weight != s.weight || weight > s.limit {
			bad("a shard has weight %d, expected %d, at most %d", s.weight, weight, s.limit)
		}
	}
	return errors.Join(errs...)
}

// states lists the digests of all objects.
func (l *lab) states() map[Object]uint64 {
	l.t.Helper()
	m := map[Object]uint64{}
	last := Object{}
	for s, err := range l.List(l.t.Context(), 0, lastHash) {
		l.ok(err)
		if len(m) > 0 && last.compare(s.Object) >= 0 {
			l.t.Fatalf("object %v is listed behind %v", s.Object, last)
		}
		last = s.Object
		m[s.Object] = s.Digest
		if st, err := l.State(l.t.Context(), s.Object); err != nil || st != s.State {
			l.t.Fatalf("object %v has the state %v, %v in the list (%v)", s.Object, st, s.State, err)
		}
	}
	return m
}

func sameStates(a, b map[Object]uint64) error {
	if maps.Equal(a, b) {
		return nil
	}
	return fmt.Errorf("two disks with the same history have the objects %v and %v", a, b)
}

// blockDevice is a disk of zeros with this Info.
func blockDevice(info block.Info) block.Device { return blocktest.NewDevice(info) }
