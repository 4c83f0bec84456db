package disk

import (
	"context"
	"fmt"
	"iter"
	"math/bits"

	"github.com/strata-storage/strata/block"
)

// Changed is a status of Map: the version may read as something else there than the
// one that it is compared with.
const Changed uint64 = 1 << 2

// noData is the status of what reads as zeros because there are no data.
const noData = block.Hole | block.Zero

// Extents tells which of the n bytes at off the version reads as zeros because
// there are no data: extents of them have the status block.Hole|block.Zero, and
// all others 0. It is as Extents of a block.Device in the context
// block.Allocation.
func (d *Disk) Extents(ctx context.Context, at At, off, n int64) iter.Seq2[block.Extent, error] {
	return d.Map(ctx, at, 0, off, n)
}

// Map is Extents that also compares the version with another one of the family, if
// since is not 0: what they do not share has the status Changed, too. It is no matter
// which of them is the older one, or on which line they are. What was written with
// the same content again, or is data in one and a hole in the other, counts as
// changed.
//
// The error is ErrVersion if since is doomed. It must not become so before Map has
// ended, as deleting it may then have begun: whoever has got an answer makes sure.
func (d *Disk) Map(ctx context.Context, at At, since uint64, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		r, err := d.begin(ctx, at, off, n)
		if err != nil {
			yield(block.Extent{}, err)
			return
		}
		defer r.end()
		if err := r.comparable(since); err != nil {
			yield(block.Extent{}, err)
			return
		}
		for off, end := off, off+n; off < end; {
			list, err := r.extents(since, off, end)
			if err == nil {
				err = context.Cause(ctx)
			}
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

// comparable refuses versions that have lost something, or will.
func (r *request) comparable(since uint64) error {
	if since == 0 {
		return nil
	}
	if v, ok := r.tree.Version(since); !ok || v.Doomed {
		return fmt.Errorf("family %d has no version %d to compare with at revision %d: %w", r.at.Family, since, r.tree.Revision(), ErrVersion)
	}
	return nil
}

// extents returns the first extents of a range.
func (r *request) extents(since uint64, off, end int64) (list []block.Extent, err error) {
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	add := func(to int64, status uint64) {
		from := off
		if k := len(list); k > 0 {
			if from = list[k-1].End(); list[k-1].Status == status && min(to, end) > from {
				list[k-1].Len = min(to, end) - list[k-1].Off
				return
			}
		}
		if to = min(to, end); to > from {
			list = append(list, block.Extent{Off: from, Len: to - from, Status: status})
		}
	}
	if o.head.data == 0 {
		add(end, noData) // of most objects there is nothing at all
		return list, nil
	}
	pieces, more, err := d.piecesOf(o, make([]uint16, 0, 256), uint16(off/pieceSize), uint16((end-1)/pieceSize))
	if err != nil {
		return nil, err
	}
	for _, piece := range pieces {
		shown, changed, err := r.compare(piece, since)
		if err != nil {
			return nil, err
		}
		start := int64(piece) * pieceSize
		for left := shown | changed; left != 0; left &= left - 1 {
			i := int64(bits.TrailingZeros16(left))
			if at := start + i*BlockSize; at+BlockSize > off {
				add(at, noData)
				add(at+BlockSize, status(shown>>i, changed>>i))
			}
		}
		if start+pieceSize > off {
			add(start+pieceSize, noData)
		}
	}
	if !more {
		add(end, noData)
	}
	return list, nil
}

// status is that of the block of bit 0.
func status(shown, changed uint16) (s uint64) {
	if shown&1 == 0 {
		s = noData
	}
	if changed&1 != 0 {
		s |= Changed
	}
	return s
}

// compare returns which blocks of a piece the version reads as data, and which of them
// and of the others another one does not have in the same place. An entry has a place
// of its own for as long as it exists, whichever version a deletion has given it to:
// if the places are the same, so is what is read. The mutex of the object is held.
func (r *request) compare(piece uint16, since uint64) (shown, changed uint16, err error) {
	v, err := r.resolved(piece, r.at.Version)
	if err != nil || since == 0 {
		return v.shown, 0, err
	}
	w, err := r.resolved(piece, since)
	if err != nil {
		return 0, 0, err
	}
	changed = v.shown ^ w.shown
	for left := v.shown & w.shown; left != 0; left &= left - 1 {
		if i := bits.TrailingZeros16(left); v.places[i] != w.places[i] {
			changed |= 1 << i
		}
	}
	return v.shown, changed, nil
}

// resolved returns the view of a version in a piece, of which all is known.
func (r *request) resolved(piece uint16, version uint64) (*view, error) {
	v, err := r.d.view(r.o, piece, version)
	if err == nil {
		err = r.d.resolve(r.tree, r.o, v, allBlocks)
	}
	if err != nil {
		return &view{}, err
	}
	return v, nil
}
