package disk

import (
	"context"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"
)

// Remove forgets an object with all its versions: the disk is no member of its
// group any more. It is durable after a later Flush, and from then on the object
// is not dirty, unless it was written again.
func (d *Disk) Remove(ctx context.Context, id Object) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	r, err := d.hold(At{Object: id}, nil)
	if err != nil {
		return err
	}
	defer r.end()
	for piece, err := range r.allPieces() {
		if err == nil {
			err = r.removePiece(ctx, piece)
		}
		if err != nil {
			return err
		}
	}
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.o.removed = true
	d.forgetMark(r.o)
	return d.failed()
}

// forgetMark takes the mark of an object back that was removed, when it is
// durable that it has nothing: until then, what was being overwritten needs it.
// The mutex of the object is held.
func (d *Disk) forgetMark(o *object) {
	if o.removed && o.dirty && o.quiet() && o.head.data+o.head.holes == 0 {
		d.unmark(o)
	}
}

// unmark takes the mark of an object back. The mutex of the object is held.
func (d *Disk) unmark(o *object) {
	var buf [objectKeyLen]byte
	if err := d.meta.db.Delete(objectKey(buf[:0], tableDirty, o.Object), pebble.NoSync); err != nil {
		d.fail(err)
	}
	o.dirty, o.mark = false, mark{}
}

// removePiece removes the entries of all versions in a piece.
func (r *request) removePiece(ctx context.Context, piece uint16) error {
	if err := r.d.throttle(ctx); err != nil {
		return err
	}
	lock, err := r.lock(ctx, int64(piece)*pieceSize, pieceSize)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	for limit := ^uint64(0); limit != 0; {
		var list []placed
		if list, limit, err = r.entriesFrom(piece, limit); err != nil {
			return err
		}
		if err := r.removeEntries(piece, list); err != nil {
			return err
		}
		if err := r.d.throttle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// removeEntries removes entries, all that their versions have in the piece.
func (r *request) removeEntries(piece uint16, list []placed) error {
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, e := range list {
		if k > 0 && list[k-1].Version == e.Version {
			continue
		}
		v, err := d.view(o, piece, e.Version)
		if err != nil {
			return err
		}
		t, err := d.tally(o, e.Version)
		if err != nil {
			return err
		}
		for left := v.has; left != 0; left &= left - 1 {
			d.set(o, v, t, bits.TrailingZeros16(left), None, 0, 0, false)
		}
	}
	if len(list) > 0 {
		o.drop(piece, 0)
		o.head.Counter++
		d.changes.Add(1)
	}
	return nil
}
