package disk

import "sync"

// set makes an entry what a version has at block i of the piece. The tally of the
// version is t. With moved, the place that the version had there before is not
// freed, as another version gets it. The mutex of the object is held.
func (d *Disk) set(o *object, v *view, t *tallied, i int, kind Kind, place uint64, sum uint32, moved bool) {
	bit := uint16(1) << i
	old := v.entry(i)
	e := Entry{v.version, old.Block, kind, sum}
	if kind != Data {
		e.Sum, place = 0, 0
	}
	if old.Kind == Data && !moved && (kind != Data || v.places[i] != place) {
		d.space.drop(v.places[i])
	}
	d.touch(o, v)
	t.pieces |= pieceBit(v.piece)
	o.head.Digest += e.digest() - old.digest()
	if kind != old.Kind {
		t.changed = true
		o.count(t, old.Kind, ^uint64(0))
		o.count(t, kind, 1)
	}

	v.has, v.data, v.known, v.shown = v.has&^bit, v.data&^bit, v.known|bit, v.shown&^bit
	switch kind {
	case None:
		// What the ancestors have is not known.
		v.known &^= bit
	case Data:
		v.has, v.data, v.shown = v.has|bit, v.data|bit, v.shown|bit
	case Hole:
		v.has |= bit
	}
	v.places[i], v.sums[i] = place, e.Sum
}

// entry is what the version has at block i of the piece.
func (v *view) entry(i int) Entry {
	e := Entry{Version: v.version, Block: uint32(v.piece)*pieceBlocks + uint32(i), Kind: v.kind(i)}
	if e.Kind == Data {
		e.Sum = v.sums[i]
	}
	return e
}

// count adds to the numbers of entries.
func (o *object) count(t *tallied, kind Kind, n uint64) {
	switch kind {
	case Data:
		o.head.data += n
		t.data += n
	case Hole:
		o.head.holes += n
		t.holes += n
	}
}

// bases has room for what views have had.
var bases = sync.Pool{New: func() any { return new(own) }}

// touch makes sure that the next flush captures a view, its tally and its
// object.
func (d *Disk) touch(o *object, v *view) {
	if !v.changed {
		v.changed, v.base = true, bases.Get().(*own)
		*v.base = v.own
		o.changed = append(o.changed, v)
		d.unflushed.Add(1)
	}
	if !o.listed {
		o.listed = true
		d.cache.again(o)
		d.listMu.Lock()
		d.list = append(d.list, o)
		d.listMu.Unlock()
	}
}
