package replica

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// Changed is the status in a map of what may differ, see disk.Disk.Map.
const Changed = disk.Changed

// MaxExtents bounds how many extents Peer.Map returns.
const MaxExtents = 4096

// How much is asked at a time: the first question is about one object, as the answer may
// be all that somebody wants to know, and each one about twice as much as the one before,
// up to these.
const (
	maxSurvey      = 64
	maxSurveyBytes = 256 << 20
)

// Map is that of Peer.
func (m *Member) Map(ctx context.Context, r *Request, n int64, since uint64) ([]block.Extent, error) {
	if err := checkBlocks(n); err != nil {
		return nil, err
	}
	if r.Generation == 0 {
		p, err := m.beginFrozen(ctx, r)
		if err != nil {
			return nil, err
		}
		defer p.leave()
		list, err := m.mapped(ctx, r, n, since)
		return list, m.still(r.Head, err)
	}
	v, err := m.begin(ctx, r)
	if err != nil {
		return nil, err
	}
	defer v.end()
	if v.role != belongs {
		return nil, m.onlyJoins(r)
	}
	return m.mapped(ctx, r, n, since)
}

// mapped asks the disk. A version to compare with is a snapshot until the answer is
// there.
func (m *Member) mapped(ctx context.Context, r *Request, n int64, since uint64) (list []block.Extent, err error) {
	base := Head{r.Family, since}
	if since != 0 {
		if err := m.frozen(ctx, base, r.Tree); err != nil {
			return nil, err
		}
	}
	for e, err := range m.c.Disk.Map(ctx, r.at(), since, r.Off, n) {
		if err != nil {
			return nil, err
		}
		if list = append(list, e); len(list) == MaxExtents {
			break
		}
	}
	if since != 0 {
		err = m.still(base, nil)
	}
	return list, err
}

// Map tells which of the n bytes at off are data, and which of them, or of the others,
// may read as something else than in the version since, which is a snapshot of the
// family, if that is not 0: extents with any of block.Hole, block.Zero and Changed.
func (v *Volume) Map(ctx context.Context, since uint64, off, n int64) iter.Seq2[block.Extent, error] {
	if err := v.info.Load().CheckRange(off, n); err != nil {
		return block.FailExtents(err)
	}
	page := func(index, from uint64) (list []disk.Summary, more bool, err error) {
		if err := v.serve(ctx); err != nil {
			return nil, false, err
		}
		defer v.gate.Leave()
		// Writes go on meanwhile: those that have ended before are on all members.
		err = v.consult(index, 0, func(ctx context.Context, p Peer, r *Request) error {
			list, more, err = pageOf(ctx, p, r, from, since)
			return err
		})
		return list, more, err
	}
	return v.survey(off, n, page, func(off, n int64, known *census) ([]block.Extent, error) {
		if err := v.serve(ctx); err != nil {
			return nil, err
		}
		defer v.gate.Leave()
		lock, err := v.lock(ctx, off, n, true)
		if err != nil {
			return nil, err
		}
		defer lock.Unlock()
		return v.mapRange(ctx, off, n, known, func(index uint64, at, n int64) (list []block.Extent, err error) {
			err = v.consult(index, at, func(ctx context.Context, p Peer, r *Request) error {
				list, err = p.Map(ctx, r, n, since)
				return err
			})
			return list, err
		})
	})
}

// pageOf asks a member for a page of the list of a group. That it answers also a question
// about the versions afterwards says that they were there until then.
func pageOf(ctx context.Context, p Peer, r *Request, from, since uint64) (list []disk.Summary, more bool, err error) {
	if list, more, err = p.List(ctx, r.To, from); err == nil {
		_, err = p.Map(ctx, r, disk.BlockSize, since)
	}
	return list, more, err
}

// Map is that of Volume.
func (f *Frozen) Map(ctx context.Context, since uint64, off, n int64) iter.Seq2[block.Extent, error] {
	v := f.v
	if err := v.info.Load().CheckRange(off, n); err != nil {
		return block.FailExtents(err)
	}
	page := func(index, from uint64) (list []disk.Summary, more bool, err error) {
		if err := v.gate.Enter(); err != nil {
			return nil, false, err
		}
		defer v.gate.Leave()
		_, err = f.consult(ctx, index, 0, func(p Peer, r *Request) error {
			list, more, err = pageOf(ctx, p, r, from, since)
			return err
		})
		return list, more, err
	}
	return v.survey(off, n, page, func(off, n int64, known *census) ([]block.Extent, error) {
		if err := v.gate.Enter(); err != nil {
			return nil, err
		}
		defer v.gate.Leave()
		return v.mapRange(ctx, off, n, known, func(index uint64, at, n int64) (list []block.Extent, err error) {
			found, err := f.consult(ctx, index, at, func(p Peer, r *Request) (err error) {
				list, err = p.Map(ctx, r, n, since)
				return err
			})
			if err == nil && !found {
				list = []block.Extent{{Off: at, Len: n, Status: noData}}
			}
			return list, err
		})
	})
}

// survey yields what ask says of a range, part by part. Nothing is locked while it does.
func (v *Volume) survey(off, n int64, page pager, ask func(off, n int64, known *census) ([]block.Extent, error)) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		s := survey{v: v, ask: ask, page: page, objects: 1, most: max(1, min(maxSurvey, maxSurveyBytes/v.c.ObjectSize))}
		for end := off + n; off < end; {
			list, err := s.next(off, end)
			if err != nil {
				yield(block.Extent{}, err)
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
				off = e.End()
			}
		}
	}
}

// mapRange asks about all objects of a range in which there may be something, several at
// the same time.
func (v *Volume) mapRange(ctx context.Context, off, n int64, known *census, ask func(index uint64, at, n int64) ([]block.Extent, error)) ([]block.Extent, error) {
	first := off / v.c.ObjectSize
	parts := make([][]block.Extent, (off+n-1)/v.c.ObjectSize-first+1)
	err := v.pieces(off, n, func(index uint64, at, _, n int64) (err error) {
		if known.lacks(index) {
			parts[int64(index)-first] = []block.Extent{{Off: int64(index)*v.c.ObjectSize + at, Len: n, Status: noData}}
			return nil
		}
		parts[int64(index)-first], err = v.mapObject(ctx, index, at, n, ask)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat(parts...), nil
}

// mapObject asks about a range of one object until all of it is known. The extents are
// those in the volume.
func (v *Volume) mapObject(ctx context.Context, index uint64, at, n int64, ask func(index uint64, at, n int64) ([]block.Extent, error)) (list []block.Extent, err error) {
	start, end := int64(index)*v.c.ObjectSize, at+n
	for at < end {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		from := at &^ (disk.BlockSize - 1)
		found, err := ask(index, from, (end-from+disk.BlockSize-1)&^(disk.BlockSize-1))
		if err != nil {
			return nil, err
		}
		before := at
		for _, e := range found {
			if to := min(e.End(), end); to > at {
				list = append(list, block.Extent{Off: start + at, Len: to - at, Status: e.Status})
				at = to
			}
		}
		if at == before {
			return nil, fmt.Errorf("a disk says nothing of object %d at %d: %w", index, at, block.ErrIO)
		}
	}
	return list, nil
}

// allocation is Extents of a block.Device that has a Map.
func allocation(info *block.Info, mc string, off, n int64, all func(off, n int64) iter.Seq2[block.Extent, error]) iter.Seq2[block.Extent, error] {
	if err := info.CheckExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(all(off, n))
}
