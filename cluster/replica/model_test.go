package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
)

// A cell is what a version has at a block.
type cell struct {
	kind disk.Kind
	sum  uint32
	data *[disk.BlockSize]byte // not changed any more
	// place is where data are: blocks that are written again stay in their places, what
	// repairs them gets new ones.
	place *spot
}

// A spot is a place of a disk, with what was written there last.
type spot struct{ data *[disk.BlockSize]byte }

// entryKey is what there may be one entry for.
type entryKey struct {
	version uint64
	block   uint32
}

// things is the content of a disk.
type things map[disk.Object]map[entryKey]cell

func (t things) set(o disk.Object, k entryKey, c cell) {
	if c.kind == disk.None {
		delete(t[o], k)
		return
	}
	if t[o] == nil {
		t[o] = map[entryKey]cell{}
	}
	t[o][k] = c
}

// A platter is what survives a process: the model of a disk.
type platter struct {
	mu       sync.Mutex
	rand     *chance
	now      things
	durable  things
	counters map[disk.Object]uint64
	// marks has the dirty objects, and whether a crash came since.
	marks map[disk.Object]bool
	// alive is the handle in use.
	alive *modelDisk
	// room is how many cells there may be.
	room int
	// still: nothing takes time.
	still bool
	// flushed, if not nil, is called after each flush.
	flushed func()
}

func newPlatter(r *chance) *platter {
	return &platter{rand: r, now: things{}, durable: things{}, counters: map[disk.Object]uint64{}, marks: map[disk.Object]bool{}, room: plenty}
}

// crash loses what was not flushed, block by block: what was overwritten in its place may be
// new, with the checksum of the old.
func (p *platter) crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive = nil
	next := things{}
	for o, cells := range p.durable {
		for k, old := range cells {
			if old.kind == disk.Data {
				if old.place.data != old.data && p.rand.n(2) == 0 {
					old.data = old.place.data
				}
				old.place = &spot{old.data}
			}
			next.set(o, k, old)
		}
	}
	p.durable = next
	p.now = copyThings(next)
	for o := range p.marks {
		p.marks[o] = true
	}
}

func copyThings(t things) things {
	next := things{}
	for o, cells := range t {
		next[o] = maps.Clone(cells)
	}
	return next
}

// open returns a handle, the only one that works.
func (p *platter) open(_ *sim, trees disk.Trees) Disk {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive = &modelDisk{p: p, trees: trees}
	return p.alive
}

// A modelDisk is a Disk on a platter, until that is opened again.
type modelDisk struct {
	p     *platter
	trees disk.Trees
}

var _ Disk = (*modelDisk)(nil)
var errDead = errors.New("the process does not exist any more")

// do waits a little and calls f if the process still lives.
func (d *modelDisk) do(f func()) error {
	if !d.p.still && d.p.rand.n(3000) == 0 {
		// Longer than anybody waits.
		time.Sleep(time.Duration(d.p.rand.n(1500)) * time.Millisecond)
	}
	if !d.p.still && d.p.rand.n(3) == 0 {
		time.Sleep(time.Duration(d.p.rand.n(3000)) * time.Microsecond)
	}
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.p.alive != d {
		return errDead
	}
	f()
	return nil
}

func (d *modelDisk) tree(ctx context.Context, at disk.At) (*family.Tree, error) {
	return d.trees.Tree(ctx, at.Family, at.Revision)
}

// find returns what a version reads.
func (d *modelDisk) find(t *family.Tree, at disk.At, b uint32) cell {
	for v := at.Version; v != 0; {
		if c, ok := d.p.now[at.Object][entryKey{v, b}]; ok {
			return c
		}
		x, _ := t.Version(v)
		v = x.Parent
	}
	return cell{kind: disk.Hole}
}

func (d *modelDisk) Read(ctx context.Context, at disk.At, p []byte, off int64) (err error) {
	t, err := d.tree(ctx, at)
	if err != nil {
		return err
	}
	for i := 0; i < len(p); i += disk.BlockSize {
		var bad error
		err := d.do(func() {
			b := uint32((off + int64(i)) / disk.BlockSize)
			c := d.find(t, at, b)
			out := p[i : i+disk.BlockSize]
			if clear(out); c.kind == disk.Data {
				copy(out, c.data[:])
				if crc32.Checksum(out, castagnoli) != c.sum {
					bad = &disk.BlockError{Object: at.Object, Version: at.Version, Block: b, Sum: c.sum, Err: disk.ErrUnfinished}
				}
			}
		})
		if err := errors.Join(err, bad); err != nil {
			return err
		}
	}
	return nil
}

func (d *modelDisk) Map(ctx context.Context, at disk.At, since uint64, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		t, err := d.tree(ctx, at)
		if v, ok := t.Version(since); err == nil && since != 0 && (!ok || v.Doomed) {
			err = disk.ErrVersion
		}
		for ; err == nil && n > 0; off, n = off+disk.BlockSize, n-disk.BlockSize {
			e := block.Extent{Off: off, Len: disk.BlockSize}
			err = d.do(func() {
				b, old := uint32(off/disk.BlockSize), at
				c := d.find(t, at, b)
				if c.kind != disk.Data {
					e.Status = block.Hole | block.Zero
				}
				old.Version = since
				if since != 0 && c.data != d.find(t, old, b).data {
					e.Status |= Changed
				}
			})
			if err == nil && !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(block.Extent{}, err)
		}
	}
}

// change changes one block after the other.
func (d *modelDisk) change(ctx context.Context, at disk.At, off, n int64, f func(t *family.Tree, b uint32, i int64) cell) error {
	t, err := d.tree(ctx, at)
	if err != nil {
		return err
	}
	if v, ok := t.Version(at.Version); !ok || v.Doomed || !t.Leaf(at.Version) {
		return disk.ErrVersion
	}
	if err := d.Mark(ctx, at.Object); err != nil {
		return err
	}
	full := false
	for i := int64(0); i < n; i += disk.BlockSize {
		err := d.do(func() {
			b := uint32((off + i) / disk.BlockSize)
			c := f(t, b, i)
			if full = c.kind == disk.Data && d.p.now[at.Object][entryKey{at.Version, b}].kind != disk.Data && d.p.cells() >= d.p.room; full {
				return
			}
			d.p.marks[at.Object] = d.p.marks[at.Object] || false
			if was := d.p.now[at.Object][entryKey{at.Version, b}]; was.kind == disk.Data && c.kind == disk.Data {
				c.place = was.place
				c.place.data = c.data
			}
			d.p.now.set(at.Object, entryKey{at.Version, b}, c)
			d.p.counters[at.Object]++
		})
		if err != nil {
			return err
		}
		if full {
			return block.ErrNoSpace
		}
	}
	return nil
}

func (p *platter) cells() (n int) {
	for _, cells := range p.now {
		n += len(cells)
	}
	return n
}

func dataCell(p []byte) cell {
	c := cell{kind: disk.Data, sum: crc32.Checksum(p, castagnoli), data: new([disk.BlockSize]byte)}
	copy(c.data[:], p)
	c.place = &spot{c.data}
	return c
}

func (d *modelDisk) Write(ctx context.Context, at disk.At, p []byte, off int64) error {
	return d.change(ctx, at, off, int64(len(p)), func(_ *family.Tree, _ uint32, i int64) cell {
		return dataCell(p[i : i+disk.BlockSize])
	})
}

func (d *modelDisk) Zero(ctx context.Context, at disk.At, off, n int64) error {
	return d.change(ctx, at, off, n, func(t *family.Tree, b uint32, _ int64) cell {
		v, _ := t.Version(at.Version)
		under := at
		under.Version = v.Parent
		below, own := d.find(t, under, b).kind == disk.Data, d.p.now[at.Object][entryKey{at.Version, b}]
		if below {
			return cell{kind: disk.Hole}
		}
		if own.kind == disk.Hole {
			return own
		}
		return cell{}
	})
}

func (d *modelDisk) Flush(context.Context) error {
	var flushed func()
	err := d.do(func() { d.p.durable, flushed = copyThings(d.p.now), d.p.flushed })
	if flushed != nil {
		flushed()
	}
	if err == nil && !d.p.still {
		time.Sleep(time.Duration(d.p.rand.n(2000)) * time.Microsecond)
	}
	return err
}

func (d *modelDisk) state(o disk.Object) (s disk.State) {
	s.Counter = d.p.counters[o]
	for k, c := range d.p.now[o] {
		var b [21]byte
		binary.LittleEndian.PutUint64(b[:], k.version)
		binary.LittleEndian.PutUint64(b[8:], uint64(k.block))
		binary.LittleEndian.PutUint32(b[16:], c.sum)
		b[20] = byte(c.kind)
		h := uint64(14695981039346656037)
		for _, x := range b {
			h = (h ^ uint64(x)) * 1099511628211
		}
		s.Digest += h
	}
	return s
}

func (d *modelDisk) State(_ context.Context, o disk.Object) (s disk.State, err error) {
	err = d.do(func() { s = d.state(o) })
	return s, err
}

func (d *modelDisk) List(_ context.Context, from, to uint64) iter.Seq2[disk.Summary, error] {
	return func(yield func(disk.Summary, error) bool) {
		var list []disk.Summary
		err := d.do(func() {
			for o, cells := range d.p.now {
				if h := o.Hash(); h >= from && h <= to && len(cells) > 0 {
					list = append(list, disk.Summary{Object: o, State: d.state(o)})
				}
			}
		})
		slices.SortFunc(list, func(a, b disk.Summary) int { return compareHash(a.Hash(), b.Hash()) })
		yieldAll(list, err, yield)
	}
}

func compareHash(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

func yieldAll[T any](list []T, err error, yield func(T, error) bool) {
	for _, x := range list {
		if !yield(x, nil) {
			return
		}
	}
	if err != nil {
		var none T
		yield(none, err)
	}
}

func (d *modelDisk) Entries(_ context.Context, o disk.Object) iter.Seq2[disk.Entry, error] {
	return func(yield func(disk.Entry, error) bool) {
		var list []disk.Entry
		err := d.do(func() {
			for k, c := range d.p.now[o] {
				list = append(list, c.entry(k))
			}
		})
		yieldAll(list, err, yield)
	}
}

func (c cell) entry(k entryKey) disk.Entry {
	return disk.Entry{Version: k.version, Block: k.block, Kind: c.kind, Sum: c.sum}
}

func (d *modelDisk) RawBlocks(_ context.Context, o disk.Object, version uint64, from uint32, p []byte, list []disk.Entry) ([]disk.Entry, error) {
	for i := 0; i < len(p); i += disk.BlockSize {
		err := d.do(func() {
			k := entryKey{version, from + uint32(i/disk.BlockSize)}
			c := d.p.now[o][k]
			if list = append(list, c.entry(k)); c.kind == disk.Data {
				copy(p[i:], c.data[:])
			}
		})
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

func (d *modelDisk) Verify(_ context.Context, o disk.Object, report func(*disk.BlockError) bool) error {
	var bad []*disk.BlockError
	err := d.do(func() {
		for k, c := range d.p.now[o] {
			if c.kind == disk.Data && crc32.Checksum(c.data[:], castagnoli) != c.sum {
				bad = append(bad, &disk.BlockError{Object: o, Version: k.version, Block: k.block, Sum: c.sum, Err: disk.ErrUnfinished})
			}
		}
	})
	for _, b := range bad {
		if !report(b) {
			break
		}
	}
	return err
}

func (d *modelDisk) Repair(ctx context.Context, o disk.Object, revision uint64, fixes []disk.Fix) (made int, err error) {
	t, err := d.trees.Tree(ctx, o.Family, revision)
	if err != nil {
		return 0, err
	}
	for _, f := range fixes {
		if _, ok := t.Version(f.Was.Version); !ok && f.Kind != disk.None {
			return made, disk.ErrVersion
		}
		full := false
		err := d.do(func() {
			k := entryKey{f.Was.Version, f.Was.Block}
			if d.p.now[o][k].entry(k) != f.Was {
				return
			}
			if full = f.Kind == disk.Data && f.Was.Kind != disk.Data && d.p.cells() >= d.p.room; full {
				return
			}
			c := cell{kind: f.Kind}
			if f.Kind == disk.Data {
				c = dataCell(f.Data)
			}
			made++
			d.p.now.set(o, k, c)
			d.p.counters[o]++
		})
		if full {
			err = block.ErrNoSpace
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

func (d *modelDisk) Dirty(_ context.Context, from, to uint64) iter.Seq2[disk.DirtyObject, error] {
	return func(yield func(disk.DirtyObject, error) bool) {
		var list []disk.DirtyObject
		err := d.do(func() {
			for o, unsettled := range d.p.marks {
				if h := o.Hash(); h >= from && h <= to {
					list = append(list, disk.DirtyObject{Object: o, Unsettled: unsettled})
				}
			}
		})
		slices.SortFunc(list, func(a, b disk.DirtyObject) int { return compareHash(a.Hash(), b.Hash()) })
		yieldAll(list, err, yield)
	}
}

func (d *modelDisk) Clear(_ context.Context, o disk.Object, s disk.State) (cleared bool, err error) {
	err = d.do(func() {
		if cleared = d.state(o) == s && maps.Equal(d.p.now[o], d.p.durable[o]); cleared {
			delete(d.p.marks, o)
		}
	})
	return cleared, err
}

func (d *modelDisk) Remove(_ context.Context, o disk.Object) error {
	return d.do(func() {
		delete(d.p.now, o)
		delete(d.p.marks, o)
		d.p.counters[o]++
	})
}

func (d *modelDisk) Mark(_ context.Context, o disk.Object) error {
	return d.do(func() { d.p.marks[o] = d.p.marks[o] || false })
}

// A chance is a source of randomness for all.
type chance struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newChance(seed uint64) *chance { return &chance{r: rand.New(rand.NewPCG(seed, 0))} }

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

// value makes content that shows whether it is whole.
func value(v uint64, p []byte) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], v)
	}
}

// valueOf reads it.
func valueOf(p []byte) (uint64, error) {
	v := binary.LittleEndian.Uint64(p)
	for i := 0; i < len(p); i += 8 {
		if w := binary.LittleEndian.Uint64(p[i:]); w != v {
			return v, fmt.Errorf("a block of %d and %d", v, w)
		}
	}
	return v, nil
}
