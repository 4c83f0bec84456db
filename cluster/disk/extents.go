package disk

import (
	"context"
	"iter"
	"math/bits"

	"github.com/strata-storage/strata/block"
)

// Extents tells which of the n bytes at off the version reads as zeros because
// there are no data: extents of them have the status block.Hole|block.Zero, and
// all others 0. It is as Extents of a block.Device in the context
// block.Allocation.
func (d *Disk) Extents(ctx context.Context, at At, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		r, err := d.begin(ctx, at, off, n)
		if err != nil {
			yield(block.Extent{}, err)
			return
		}
		defer r.end()
		for off, end := off, off+n; off < end; {
			list, err := r.extents(off, end)
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

// extents returns the first extents of a range.
func (r *request) extents(off, end int64) (list []block.Extent, err error) {
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
	pieces, more, err := d.piecesOf(o, make([]uint16, 0, 256), uint16(off/pieceSize), uint16((end-1)/pieceSize))
	if err != nil {
		return nil, err
	}
	const hole = block.Hole | block.Zero
	for _, piece := range pieces {
		v, err := d.view(o, piece, r.at.Version)
		if err == nil {
			err = d.resolve(r.tree, o, v, allBlocks)
		}
		if err != nil {
			return nil, err
		}
		start := int64(piece) * pieceSize
		for left := v.shown; left != 0; left &= left - 1 {
			i := int64(bits.TrailingZeros16(left))
			if at := start + i*BlockSize; at+BlockSize > off {
				add(at, hole)
				add(at+BlockSize, 0)
			}
		}
		if start+pieceSize > off {
			add(start+pieceSize, hole)
		}
	}
	if !more {
		add(end, hole)
	}
	return list, nil
}
