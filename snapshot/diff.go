package snapshot

import (
	"context"
	"iter"

	"github.com/strata-storage/strata/block"
)

// Changed is the status of an extent of Diff that may differ.
const Changed uint64 = 1

// view of a name, of which the empty one is the origin.
func (s *Set) idOf(name string) (ID, error) {
	if name == "" {
		return Origin, nil
	}
	r, err := s.names.get(name)
	if err != nil {
		return 0, err
	}
	return r.id, nil
}

// Diff tells which parts of two views may differ, by their names; the empty
// name is the origin. The extents are adjacent and cover all of the device;
// those with the status 0 are equal. Equal is what has the same place, so that
// data that were written twice count as changed. Snapshots should be open
// meanwhile, so that they are not deleted.
func (s *Set) Diff(ctx context.Context, a, b string) iter.Seq2[block.Extent, error] {
	x, err := s.idOf(a)
	if err != nil {
		return block.FailExtents(err)
	}
	y, err := s.idOf(b)
	if err != nil {
		return block.FailExtents(err)
	}
	return s.diff(ctx, new(block.Gate), x, y, 0, s.size)
}

// diff compares a range of two views, as long as the gate is open.
func (s *Set) diff(ctx context.Context, gate *block.Gate, x, y ID, off, n int64) iter.Seq2[block.Extent, error] {
	return block.MergeExtents(func(yield func(block.Extent, error) bool) {
		for end := off + n; off < end; {
			c := off >> s.shift
			e, err := s.diffAt(ctx, gate, x, y, c)
			if err != nil {
				yield(e, err)
				return
			}
			e.Off, e.Len = off, min(e.End(), end)-off
			if !yield(e, nil) {
				return
			}
			off = e.End()
		}
	})
}

// diffAt compares the chunks from c on.
func (s *Set) diffAt(ctx context.Context, gate *block.Gate, a, b ID, c int64) (block.Extent, error) {
	if err := gate.Enter(); err != nil {
		return block.Extent{}, err
	}
	defer gate.Leave()
	if err := s.enter(ctx, &s.reads, 0); err != nil {
		return block.Extent{}, err
	}
	defer s.leave(&s.reads)
	if err := context.Cause(ctx); err != nil {
		return block.Extent{}, err
	}
	x, err := s.locate(ctx, a, c, s.chunks-c, 0)
	if err != nil {
		return block.Extent{}, err
	}
	y, err := s.locate(ctx, b, c, x.N, 0)
	if err != nil {
		return block.Extent{}, err
	}
	off := c << s.shift
	e := block.Extent{Off: off, Len: min(y.N<<s.shift, s.size-off)}
	if x.Place != y.Place {
		e.Status = Changed
	}
	return e, nil
}

// Usage returns the space of snapshots on the store, in the order of names.
func (s *Set) Usage(ctx context.Context, names ...string) ([]Usage, error) {
	var ids []ID
	for _, name := range names {
		r, err := s.names.get(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, r.id)
	}
	if err := s.enter(ctx, &s.reads, 0); err != nil {
		return nil, err
	}
	defer s.leave(&s.reads)
	return s.store.Usage(ctx, ids)
}
