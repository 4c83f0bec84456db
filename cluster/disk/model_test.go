package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

const (
	sector = 512
	// Objects of the model have some pieces and a bit.
	modelObject  = 3*pieceSize + 5*BlockSize
	modelIndexes = 2
)

// A model is what disks with one history must have: the bytes of each version
// that can be read, object by object.
type model struct {
	rng   *rand.Rand
	trees *forest
	disks []*lab
	// images has the bytes of version {family, version, index}, and for each
	// sector what may be there after the power has failed.
	images map[image]*content
	// written are the objects that were changed and not cleared since.
	written map[Object]bool
	// unsure are the images of which a change has failed.
	unsure map[image]bool
	log    []string
	seed   uint64
	// full counts the writes that were refused for want of room.
	full int
	// brief keeps requests small.
	brief bool
}

type image struct{ family, version, index uint64 }

func (k image) at() At { return At{Object: Object{k.family, k.index}, Version: k.version} }

type content struct {
	now []byte
	// lasting are for each sector what was durable and everything since.
	lasting [][][]byte
}

func newContent() *content {
	c := &content{now: make([]byte, modelObject)}
	c.flushed()
	return c
}

func (c *content) flushed() {
	c.lasting = make([][][]byte, modelObject/sector)
	for i := range c.lasting {
		c.lasting[i] = [][]byte{bytes.Clone(c.now[i*sector : (i+1)*sector])}
	}
}

func (c *content) clone() *content {
	n := &content{now: bytes.Clone(c.now)}
	for _, l := range c.lasting {
		n.lasting = append(n.lasting, slices.Clone(l))
	}
	return n
}

// put makes p the bytes at off.
func (c *content) put(p []byte, off int64) {
	copy(c.now[off:], p)
	for i := off / sector; i*sector < off+int64(len(p)); i++ {
		c.lasting[i] = append(c.lasting[i], bytes.Clone(c.now[i*sector:(i+1)*sector]))
	}
}

// survived compares what is there after a power cut with what may be there, and
// takes it for the truth. It reports whether that is not what was durable.
func (c *content) survived(p []byte) (changed bool, err error) {
	for i, l := range c.lasting {
		got := p[i*sector : (i+1)*sector]
		changed = changed || !bytes.Equal(got, l[0])
		if !slices.ContainsFunc(l, func(want []byte) bool { return bytes.Equal(want, got) }) {
			return false, fmt.Errorf("sector %d begins with %x, which it may not after a power cut", i, got[:8])
		}
	}
	copy(c.now, p)
	c.flushed()
	return changed, nil
}

func newModel(seed uint64, trees *forest, disks ...*lab) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 77)), trees: trees, disks: disks, images: map[image]*content{}, seed: seed}
	for fid := range uint64(2) {
		m.newVersion(fid+1, 0)
	}
	return m
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

// newVersion adds a version that begins with what its parent has.
func (m *model) newVersion(fid, parent uint64) {
	id := m.trees.add(fid, parent)
	for index := range uint64(modelIndexes) {
		c := newContent()
		if parent != 0 {
			old := image{fid, parent, index}
			c = m.images[old].clone()
			if m.unsure[old] {
				m.unsure[image{fid, id, index}] = true
			}
		}
		m.images[image{fid, id, index}] = c
	}
	m.note("version %d of family %d from %d", id, fid, parent)
}

// versions lists those that can be read, or only those that can be written.
func (m *model) versions(fid uint64, heads bool) (list []uint64) {
	t := m.trees.tree(fid)
	for _, v := range t.Versions() {
		if !v.Doomed && (!heads || t.Leaf(v.ID)) {
			list = append(list, v.ID)
		}
	}
	return list
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// each calls f with every disk.
func (m *model) each(f func(*lab) error) error {
	for i, l := range m.disks {
		if err := f(l); err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
	}
	return nil
}

// step does one thing.
func (m *model) step(ctx context.Context) error {
	fid := 1 + m.rng.Uint64N(2)
	switch n := m.rng.IntN(100); {
	case n < 45:
		return m.change(ctx, fid)
	case n < 60:
		return m.read(ctx, fid)
	case n < 68:
		m.note("flush")
		return m.each(func(l *lab) error { return m.flush(ctx, l) })
	case n < 76:
		if all := m.versions(fid, false); len(all) < 6 {
			m.newVersion(fid, pick(m.rng, all))
		}
		return nil
	case n < 82:
		return m.doom(fid)
	case n < 89:
		return m.delete(ctx, fid)
	case n < 92:
		if list := m.doomed(fid); len(list) > 0 {
			_, err := m.purge(ctx, fid, pick(m.rng, list))
			return err
		}
		return nil
	case n < 96:
		return m.clear(ctx)
	}
	return m.extents(ctx, fid)
}

// flush makes everything durable on a disk, which the model notes if that is
// the only one.
func (m *model) flush(ctx context.Context, l *lab) error {
	err := l.Flush(ctx)
	if err == nil && len(m.disks) == 1 {
		for k, c := range m.images {
			if !m.unsure[k] {
				c.flushed()
			}
		}
	}
	return err
}

// where draws a range of an object.
func (m *model) where() (off, n int64) {
	switch m.rng.IntN(4) {
	case 0:
		off, n = m.rng.Int64N(modelObject), 1+m.rng.Int64N(3*BlockSize)
	case 1:
		off, n = m.rng.Int64N(modelObject)&^(sector-1), sector*(1+m.rng.Int64N(40))
	case 2:
		off, n = m.rng.Int64N(modelObject)&^(BlockSize-1), BlockSize*(1+m.rng.Int64N(3))
	case 3:
		off, n = m.rng.Int64N(modelObject)&^(BlockSize-1), BlockSize*(1+m.rng.Int64N(50))
	}
	if m.brief {
		n = min(n, 6*BlockSize)
	}
	return off, min(n, modelObject-off)
}

// change writes, zeroes or trims.
func (m *model) change(ctx context.Context, fid uint64) (err error) {
	heads := m.versions(fid, true)
	if len(heads) == 0 {
		return nil
	}
	k := image{fid, pick(m.rng, heads), m.rng.Uint64N(modelIndexes)}
	off, n := m.where()
	p := make([]byte, n)
	defer func() {
		if err == nil && m.written != nil {
			m.written[k.at().Object] = true
		}
		if err != nil && m.unsure != nil {
			m.unsure[k] = true
		}
	}()
	switch kind := m.rng.IntN(10); {
	case kind < 7:
		blocktest.Fill(p, off, m.rng.Uint64())
		m.note("write %v %d+%d", k.at(), off, n)
		m.images[k].put(p, off)
		return m.orRefused(ctx, k, func(l *lab) error {
			if p[0]&1 == 0 {
				if done, err := l.WriteNow(k.at(), p, off); done {
					return err
				}
			}
			return l.Write(ctx, k.at(), p, off)
		})
	case kind < 9:
		m.note("zero %v %d+%d", k.at(), off, n)
		m.images[k].put(p, off)
		return m.orRefused(ctx, k, func(l *lab) error { return l.Zero(ctx, k.at(), off, n) })
	}
	m.note("trim %v %d+%d", k.at(), off, n)
	from, end := (off+BlockSize-1)&^(BlockSize-1), (off+n)&^(BlockSize-1)
	if end > from {
		m.images[k].put(p[:end-from], from)
	}
	return m.orRefused(ctx, k, func(l *lab) error { return l.Trim(ctx, k.at(), off, n) })
}

// orRefused is each for changes that may need room.
func (m *model) orRefused(ctx context.Context, k image, f func(*lab) error) error {
	err := m.each(f)
	if errors.Is(err, block.ErrNoSpace) && len(m.disks) == 1 {
		return m.refused(ctx, k)
	}
	if err != nil && m.unsure != nil && settle(ctx, m.disks[0], k.at().Object) == nil && m.refused(ctx, k) == nil {
		m.note("%v", err)
		return nil
	}
	return err
}

// refused says that a change has not found room for all of it.
func (m *model) refused(ctx context.Context, k image) error {
	m.note("refused")
	m.full++
	c := m.images[k]
	got := make([]byte, modelObject)
	if err := m.disks[0].Read(ctx, k.at(), got, 0); err != nil {
		return err
	}
	for i := range c.lasting {
		p := got[i*sector : (i+1)*sector]
		if !slices.ContainsFunc(c.lasting[i], func(want []byte) bool { return bytes.Equal(want, p) }) {
			return fmt.Errorf("sector %d of %v begins with %x after a write that was refused", i, k.at(), p[:8])
		}
	}
	copy(c.now, got)
	return nil
}

func (m *model) read(ctx context.Context, fid uint64) error {
	k := image{fid, pick(m.rng, m.versions(fid, false)), m.rng.Uint64N(modelIndexes)}
	off, n := m.where()
	return m.each(func(l *lab) error { return m.compare(ctx, l, k, off, n) })
}

func (m *model) compare(ctx context.Context, l *lab, k image, off, n int64) error {
	got := make([]byte, n)
	if !l.ReadNow(k.at(), got, off) {
		if err := l.Read(ctx, k.at(), got, off); err != nil {
			return err
		}
	}
	want := m.images[k].now[off : off+n]
	if bytes.Equal(got, want) {
		return nil
	}
	i := 0
	for got[i] == want[i] {
		i++
	}
	return fmt.Errorf("%v has %#x at %d, expected %#x", k.at(), got[i], off+int64(i), want[i])
}

// verify compares everything.
func (m *model) verify(ctx context.Context) error {
	return m.each(func(l *lab) error {
		for k := range m.images {
			if err := m.compare(ctx, l, k, 0, modelObject); err != nil {
				return err
			}
		}
		return nil
	})
}

// doom makes a version unreadable, unless it is the only one.
func (m *model) doom(fid uint64) error {
	all := m.versions(fid, false)
	if len(all) < 2 {
		return nil
	}
	v := pick(m.rng, all)
	m.note("doom %d of family %d", v, fid)
	m.trees.doom(fid, v)
	for index := range uint64(modelIndexes) {
		delete(m.images, image{fid, v, index})
	}
	return nil
}

// doomed lists the doomed versions.
func (m *model) doomed(fid uint64) (list []uint64) {
	for _, v := range m.trees.tree(fid).Versions() {
		if v.Doomed {
			list = append(list, v.ID)
		}
	}
	return list
}

// delete deletes what it can of a doomed version, by steps of some pieces, on one
// of the disks.
func (m *model) delete(ctx context.Context, fid uint64) error {
	if list := m.doomed(fid); len(list) > 0 {
		v, i := pick(m.rng, list), m.rng.IntN(len(m.disks))
		m.note("delete %d of family %d on disk %d", v, fid, i)
		_, err := m.deleteOn(ctx, m.disks[i], fid, v)
		return err
	}
	return nil
}

func (m *model) deleteOn(ctx context.Context, l *lab, fid, v uint64) (kept int, err error) {
	for next := (Cursor{}); ; {
		step, err := l.Delete(ctx, fid, v, 0, next, 1+m.rng.IntN(9))
		if err != nil {
			return 0, err
		}
		if kept += step.Kept; step.Done {
			return kept, nil
		}
		next = step.Next
	}
}

// purge deletes a doomed version on all disks, and takes it out of the tree if
// it is empty.
func (m *model) purge(ctx context.Context, fid, v uint64) (gone bool, err error) {
	m.note("purge %d of family %d", v, fid)
	sum := 0
	err = m.each(func(l *lab) error {
		kept, err := m.deleteOn(ctx, l, fid, v)
		if sum += kept; err != nil {
			return err
		}
		return m.flush(ctx, l)
	})
	if err != nil || sum > 0 {
		return false, err
	}
	m.note("remove %d of family %d", v, fid)
	m.trees.remove(fid, v)
	return true, nil
}

// purgeAll purges doomed versions as long as one goes.
func (m *model) purgeAll(ctx context.Context) error {
	for again := true; again; {
		again = false
		for fid := range uint64(2) {
			for _, v := range m.doomed(fid + 1) {
				gone, err := m.purge(ctx, fid+1, v)
				if err != nil {
					return err
				}
				again = again || gone
			}
		}
	}
	return nil
}

// clear says that dirty objects are the same everywhere.
func (m *model) clear(ctx context.Context) error {
	m.note("clear")
	return m.each(func(l *lab) error {
		for o, err := range l.Dirty(ctx, 0, lastHash) {
			if err != nil {
				return err
			}
			s, err := l.State(ctx, o.Object)
			if err != nil {
				return err
			}
			cleared, err := l.Clear(ctx, o.Object, s)
			if err != nil {
				return err
			}
			if cleared && len(m.disks) == 1 {
				delete(m.written, o.Object)
				// It would not be if there were something that is not durable.
				for k, c := range m.images {
					if k.at().Object == o.Object && !m.unsure[k] {
						c.flushed()
					}
				}
			}
		}
		return nil
	})
}

// extents makes sure that what is said to be a hole reads as zeros, and that what is not
// said to have changed has not.
func (m *model) extents(ctx context.Context, fid uint64) error {
	k := image{fid, pick(m.rng, m.versions(fid, false)), m.rng.Uint64N(modelIndexes)}
	other := image{fid, pick(m.rng, m.versions(fid, false)), k.index}
	known := !m.unsure[k] && !m.unsure[other]
	off, n := m.where()
	return m.each(func(l *lab) error {
		at := off
		for e, err := range l.Map(ctx, k.at(), other.version, off, n) {
			if err != nil {
				return err
			}
			if e.Off != at || e.Len <= 0 || e.End() > off+n {
				return fmt.Errorf("extent %v at %d of %d+%d", e, at, off, n)
			}
			if e.Status&block.Zero != 0 && !block.IsZero(m.images[k].now[e.Off:e.End()]) {
				return fmt.Errorf("extent %v is not zero", e)
			}
			if known && e.Status&Changed == 0 && !bytes.Equal(m.images[k].now[e.Off:e.End()], m.images[other].now[e.Off:e.End()]) {
				return fmt.Errorf("extent %v of %v has changed since %d", e, k, other.version)
			}
			at = e.End()
		}
		if at != off+n {
			return fmt.Errorf("extents end at %d of %d+%d", at, off, n)
		}
		return nil
	})
}

// explain adds the history to an error.
func (m *model) explain(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("seed %d: %w", m.seed, err), errors.New(strings.Join(m.log, "\n")))
}
