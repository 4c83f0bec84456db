package disk

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strata-storage/strata/cluster/family"
)

const allBlocks = 1<<pieceBlocks - 1

// The methods here need the mutex of the object.

// load reads what there is once for each object.
func (d *Disk) load(o *object) error {
	if o.loaded {
		return nil
	}
	var buf [objectKeyLen]byte
	found, err := d.meta.get(objectKey(buf[:0], tableObject, o.Object), o.head.decode)
	if err == nil {
		o.dirty, err = d.meta.get(objectKey(buf[:0], tableDirty, o.Object), o.mark.decode)
	}
	if err != nil {
		return fmt.Errorf("object %v: %w", o.Object, err)
	}
	if o.dirty && !found {
		// It had other states, and this is none of them.
		o.head.Counter = d.blanks.Add(1) << 40
	}
	o.loaded = true
	return nil
}

// view returns the view of a version in a piece, of which its own blocks are
// known.
func (d *Disk) view(o *object, piece uint16, version uint64) (*view, error) {
	if v := o.cached(piece, version); v != nil && v.version == version {
		return v, nil
	}
	v := &view{version: version, piece: piece}
	// A version that has just begun is written in one piece after the other.
	if t := o.tallies[version]; t == nil || t.pieces&pieceBit(piece) != 0 {
		var buf [pieceKeyLen]byte
		if _, err := d.meta.get(pieceKey(buf[:0], o.Object, piece, version), v.decodeOf(d)); err != nil {
			return nil, fmt.Errorf("piece %d of version %d of object %v: %w", piece, version, o.Object, err)
		}
	}
	v.forget()
	o.insert(v)
	return v, nil
}

// decodeOf is decode that knows how many places the disk has.
func (r *own) decodeOf(d *Disk) func([]byte) error {
	return func(b []byte) error {
		if err := r.decode(b); err != nil {
			return err
		}
		for left := r.data; left != 0; left &= left - 1 {
			if p := r.places[bits.TrailingZeros16(left)]; p >= d.super.blocks() {
				return damaged("a record has place %d, the disk has %d", p, d.super.blocks())
			}
		}
		return nil
	}
}

// tally returns the tally of a version.
func (d *Disk) tally(o *object, version uint64) (*tallied, error) {
	if t := o.tallies[version]; t != nil {
		return t, nil
	}
	t := &tallied{}
	var buf [tallyKeyLen]byte
	if _, err := d.meta.get(tallyKey(buf[:0], o.Object, version), t.decode); err != nil {
		return nil, fmt.Errorf("version %d of object %v: %w", version, o.Object, err)
	}
	if t.data+t.holes > 0 {
		t.pieces = ^uint64(0)
	}
	o.tallies[version] = t
	o.weight.Add(1)
	return t, nil
}

// resolve finds out what the version of a view reads at the blocks of want.
func (d *Disk) resolve(tree *family.Tree, o *object, v *view, want uint16) (err error) {
	if want&^v.known == 0 {
		return nil
	}
	l := lookup{d: d, o: o, piece: v.piece}
	defer func() { err = errors.Join(err, l.close()) }()
	at := tree.Floor(v.version, v.version-1)
	for at != 0 && want&^v.known != 0 {
		if c := o.cached(v.piece, at); c != nil && c.version == at && (want&^v.known)&^c.known == 0 {
			v.inherit(&c.own, want&^v.known&c.known, c.shown)
			v.known |= want
			return nil
		}
		version, r, err := l.youngest(at)
		if err != nil {
			return err
		}
		if version == 0 {
			at = 0
			break
		}
		if version == at {
			v.inherit(r, r.has&^v.known, r.data)
			version--
		}
		at = tree.Floor(v.version, version)
	}
	v.known |= want
	if at == 0 {
		v.known = allBlocks
	}
	return nil
}

// inherit takes over blocks of an ancestor.
func (v *view) inherit(r *own, blocks, data uint16) {
	v.known |= blocks
	data &= blocks
	v.shown |= data
	for ; data != 0; data &= data - 1 {
		i := bits.TrailingZeros16(data)
		v.places[i], v.sums[i] = r.places[i], r.sums[i]
	}
}

// A lookup goes through the records of a piece, from the youngest version on.
type lookup struct {
	d     *Disk
	o     *object
	piece uint16
	it    *pebble.Iterator
	buf   own
}

// youngest returns the record of the youngest version that has one and is at
// most limit, and 0 if there is none. The record is valid until the next call.
// Limits become smaller from call to call.
func (l *lookup) youngest(limit uint64) (version uint64, r *own, err error) {
	for limit > 0 {
		stored, err := l.stored(limit)
		if err != nil {
			return 0, nil, err
		}
		v := l.o.cached(l.piece, limit)
		for v != nil && !v.pinned() {
			v = v.next
		}
		if v != nil && v.version >= stored {
			if v.has != 0 {
				return v.version, &v.own, nil
			}
			limit = v.version - 1
			continue
		}
		if stored == 0 {
			break
		}
		if err := l.buf.decodeOf(l.d)(l.it.Value()); err != nil {
			return 0, nil, fmt.Errorf("piece %d of version %d of object %v: %w", l.piece, stored, l.o.Object, err)
		}
		return stored, &l.buf, nil
	}
	return 0, nil, nil
}

// stored moves the iterator to the youngest version that is at most limit.
func (l *lookup) stored(limit uint64) (version uint64, err error) {
	var buf [pieceKeyLen]byte
	key := pieceKey(buf[:0], l.o.Object, l.piece, limit)
	if l.it == nil {
		hi := pieceKey(nil, l.o.Object, l.piece, 0)
		l.it, err = l.d.meta.db.NewIter(&pebble.IterOptions{LowerBound: append([]byte(nil), key...), UpperBound: hi})
		if err != nil {
			return 0, l.d.meta.unreadable(err)
		}
		l.it.First()
	}
	// The next one is cheaper than any one, and usually the one wanted.
	for try := 0; l.it.Valid(); try++ {
		_, _, version, err := parsePieceKey(l.it.Key())
		if err != nil {
			return 0, err
		}
		switch {
		case version <= limit:
			return version, nil
		case try == 0:
			l.it.Next()
		default:
			l.it.SeekGE(key)
		}
	}
	if err := l.it.Error(); err != nil {
		return 0, l.d.meta.unreadable(err)
	}
	return 0, nil
}

func (l *lookup) close() error {
	if l.it == nil {
		return nil
	}
	return l.it.Close()
}

// owner returns the version that has the block which a version reads.
func (d *Disk) owner(tree *family.Tree, o *object, version uint64, block uint32) (owner uint64, err error) {
	l := lookup{d: d, o: o, piece: uint16(block / pieceBlocks)}
	defer func() { err = errors.Join(err, l.close()) }()
	for at := version; at != 0; {
		found, r, err := l.youngest(at)
		if err != nil || found == 0 {
			return 0, err
		}
		if found == at && r.kind(int(block%pieceBlocks)) != None {
			return found, nil
		}
		if found == at {
			found--
		}
		at = tree.Floor(version, found)
	}
	return 0, nil
}

// below finds out which of some blocks that a version has are data in the
// nearest ancestor that has them.
func (d *Disk) below(tree *family.Tree, o *object, v *view, blocks uint16) (data uint16, err error) {
	if blocks == 0 {
		return 0, nil
	}
	at, _ := tree.Version(v.version)
	if at.Parent == 0 {
		return 0, nil
	}
	parent, err := d.view(o, v.piece, at.Parent)
	if err != nil {
		return 0, err
	}
	if err := d.resolve(tree, o, parent, blocks); err != nil {
		return 0, err
	}
	return parent.shown & blocks, nil
}
