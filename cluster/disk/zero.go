package disk

import (
	"context"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Zero makes the n bytes at off zeros, whatever ancestors have there. Whole
// blocks become holes and free their places; no room is needed for them. The
// version must be one without children.
func (d *Disk) Zero(ctx context.Context, at At, off, n int64) error {
	return d.zero(ctx, at, off, n, true)
}

// Trim makes the whole blocks of the n bytes at off zeros, as Zero does, and
// leaves the rest as it is.
func (d *Disk) Trim(ctx context.Context, at At, off, n int64) error {
	return d.zero(ctx, at, off, n, false)
}

func (d *Disk) zero(ctx context.Context, at At, off, n int64, edges bool) error {
	r, err := d.beginChange(ctx, at, off, n)
	if err != nil || r.o == nil {
		return err
	}
	defer r.end()
	lock, err := r.lock(ctx, off, n)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	// The first and last block that are zeroed as a whole.
	from, end := (off+BlockSize-1)/BlockSize, (off+n)/BlockSize
	if edges {
		if from > end {
			return r.zeroPart(ctx, pl, off, n)
		}
		if err := r.zeroPart(ctx, pl, off, from*BlockSize-off); err != nil {
			return err
		}
		if err := r.zeroPart(ctx, pl, end*BlockSize, off+n-end*BlockSize); err != nil {
			return err
		}
	}
	if from >= end {
		return nil
	}
	return r.zeroBlocks(ctx, uint32(from), uint32(end))
}

// zeroPart writes zeros to a part of a block, if there is something else.
func (r *request) zeroPart(ctx context.Context, pl *plan, off, n int64) error {
	if n == 0 {
		return nil
	}
	if err := r.findBlocks(pl, uint32(off/BlockSize), 1); err != nil || !pl.data[0] {
		return err
	}
	var zeros [BlockSize]byte
	return r.writeParts(ctx, pl, zeros[:n], off)
}

// zeroBlocks makes blocks holes, some pieces at a time.
func (r *request) zeroBlocks(ctx context.Context, from, end uint32) error {
	const few = 64
	pieces := make([]uint16, 0, few)
	for from < end {
		if err := r.d.throttle(ctx); err != nil {
			return err
		}
		next, err := r.zeroPieces(pieces[:0], from, end)
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// zeroPieces makes blocks holes in as many pieces as fit into list, and returns
// where to go on.
func (r *request) zeroPieces(list []uint16, from, end uint32) (next uint32, err error) {
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	list, more, err := d.piecesOf(o, list, uint16(from/pieceBlocks), uint16((end-1)/pieceBlocks))
	if err != nil {
		return 0, err
	}
	t, err := d.tally(o, r.at.Version)
	if err != nil {
		return 0, err
	}
	for _, piece := range list {
		start := uint32(piece) * pieceBlocks
		a, b := max(from, start), min(end, start+pieceBlocks)
		if err := r.zeroPiece(piece, t, span(int(a-start), int(b-a))); err != nil {
			return 0, err
		}
	}
	if !more {
		return end, nil
	}
	return (uint32(list[len(list)-1]) + 1) * pieceBlocks, nil
}

// zeroPiece makes blocks of a piece holes, where they read as something else:
// entries that say what is known without them are not kept, so that equal
// objects have equal entries.
func (r *request) zeroPiece(piece uint16, t *tallied, want uint16) error {
	o, d := r.o, r.d
	v, err := d.view(o, piece, r.at.Version)
	if err != nil {
		return err
	}
	own := v.data & want
	below, err := d.below(r.tree, o, v, own)
	if err != nil {
		return err
	}
	if err := d.resolve(r.tree, o, v, want); err != nil {
		return err
	}
	todo := v.shown & want
	if todo == 0 {
		return nil
	}
	o.drop(piece, r.at.Version)
	for left := todo; left != 0; left &= left - 1 {
		i := bits.TrailingZeros16(left)
		kind := Hole
		if bit := uint16(1) << i; own&bit != 0 && below&bit == 0 {
			kind = None
		}
		d.set(o, v, t, i, kind, 0, 0, false)
		// What is under it is known to be nothing.
		v.known |= 1 << i
	}
	o.head.Counter++
	d.changes.Add(1)
	return nil
}

// piecesOf appends the pieces from one up to another in which any version has
// something, as many as there is room for, and reports whether there may be
// more. The mutex of the object is held.
func (d *Disk) piecesOf(o *object, list []uint16, from, to uint16) (_ []uint16, more bool, err error) {
	if from == to {
		return append(list, from), false, nil
	}
	lo, hi := pieceKey(nil, o.Object, from, ^uint64(0)), pieceKey(nil, o.Object, to, 0)
	it, err := d.meta.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, false, d.meta.unreadable(err)
	}
	defer func() {
		if cerr := it.Close(); cerr != nil {
			err = d.meta.unreadable(cerr)
		}
	}()
	pinned := o.pinnedPieces(from, to)
	ok := it.First()
	for len(list) < cap(list) {
		stored := to + 1
		if ok {
			if _, stored, _, err = parsePieceKey(it.Key()); err != nil {
				return nil, false, err
			}
		}
		next := stored
		if len(pinned) > 0 {
			next = min(next, pinned[0])
		}
		if next > to {
			return list, false, nil
		}
		list = append(list, next)
		for len(pinned) > 0 && pinned[0] == next {
			pinned = pinned[1:]
		}
		if stored == next {
			ok = it.SeekGE(pieceKey(nil, o.Object, next+1, ^uint64(0)))
		}
	}
	return list, true, nil
}

// pinnedPieces returns the pieces from one up to another of which the metadata
// have something else, in order.
func (o *object) pinnedPieces(from, to uint16) (list []uint16) {
	for _, views := range [][]*view{o.changed, o.captured} {
		for _, v := range views {
			if v.piece >= from && v.piece <= to {
				list = append(list, v.piece)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
