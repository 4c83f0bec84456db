package disk

import (
	"encoding/binary"
	"math/bits"
)

// own is what a version has in a piece: a record of the metadata.
type own struct {
	// has are the blocks with entries, data those of them with data; the others
	// are holes.
	has, data uint16
	// places and sums are those of the blocks with data. Places count blocks of
	// the slab from the first segment on.
	places [pieceBlocks]uint64
	sums   [pieceBlocks]uint32
}

// kind of the entry at block i.
func (r *own) kind(i int) Kind {
	switch bit := uint16(1) << i; {
	case r.has&bit == 0:
		return None
	case r.data&bit == 0:
		return Hole
	}
	return Data
}

// maxPlace bounds places, so that they and a length fit into a number.
const maxPlace = 1 << 52

// encode appends the record:
//
//	has 2, data 2, runs of consecutive places, sums 4 each
//
// where a run is a varint of place*16 + number of blocks - 1, and continues with
// the next block that has data.
func (r *own) encode(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, r.has)
	b = binary.LittleEndian.AppendUint16(b, r.data)
	for left := r.data; left != 0; {
		i := bits.TrailingZeros16(left)
		n := uint64(0)
		for start := r.places[i]; left != 0 && r.places[bits.TrailingZeros16(left)] == start+n; n++ {
			left &= left - 1
		}
		b = binary.AppendUvarint(b, r.places[i]<<4|(n-1))
	}
	for left := r.data; left != 0; left &= left - 1 {
		b = binary.LittleEndian.AppendUint32(b, r.sums[bits.TrailingZeros16(left)])
	}
	return b
}

// decode is the inverse of encode. Each record has one encoding only.
func (r *own) decode(b []byte) error {
	if len(b) < 4 {
		return damaged("a record has %d bytes, expected 4 at least", len(b))
	}
	*r = own{has: binary.LittleEndian.Uint16(b), data: binary.LittleEndian.Uint16(b[2:])}
	if r.has == 0 || r.data&^r.has != 0 {
		return damaged("a record has entries %04x and data %04x", r.has, r.data)
	}
	b = b[4:]
	end := uint64(maxPlace)
	for left := r.data; left != 0; {
		v, n := uvarint(b)
		if n <= 0 {
			return damaged("a record ends within its places")
		}
		b = b[n:]
		place, count := v>>4, int(v&15)+1
		if count > bits.OnesCount16(left) || place == end || place > maxPlace-pieceBlocks {
			return damaged("a record has a run of %d blocks at %d, with %d blocks left", count, place, bits.OnesCount16(left))
		}
		for end = place; count > 0; count-- {
			r.places[bits.TrailingZeros16(left)] = end
			left &= left - 1
			end++
		}
	}
	if want := 4 * bits.OnesCount16(r.data); len(b) != want {
		return damaged("a record has %d bytes of sums, expected %d", len(b), want)
	}
	for left := r.data; left != 0; left &= left - 1 {
		r.sums[bits.TrailingZeros16(left)] = binary.LittleEndian.Uint32(b)
		b = b[4:]
	}
	return nil
}

// uvarint is binary.Uvarint that refuses encodings longer than needed.
func uvarint(b []byte) (uint64, int) {
	v, n := binary.Uvarint(b)
	if n > 1 && b[n-1] == 0 {
		return 0, 0
	}
	return v, n
}

// uvarints reads numbers that make up all of b.
func uvarints(b []byte, what string, to ...*uint64) error {
	for _, v := range to {
		x, n := uvarint(b)
		if n <= 0 {
			return damaged("%s ends early", what)
		}
		*v, b = x, b[n:]
	}
	if len(b) != 0 {
		return damaged("%s has %d bytes too many", what, len(b))
	}
	return nil
}

// A header is what there is once for each object that has entries.
type header struct {
	State
	// data and holes count the entries of all versions.
	data, holes uint64
}

func (h *header) encode(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, h.Digest)
	for _, v := range []uint64{h.Counter, h.data, h.holes} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (h *header) decode(b []byte) error {
	if len(b) < 8 {
		return damaged("a header has %d bytes, expected 8 at least", len(b))
	}
	h.Digest = binary.LittleEndian.Uint64(b)
	if err := uvarints(b[8:], "a header", &h.Counter, &h.data, &h.holes); err != nil {
		return err
	}
	if h.data == 0 && h.holes == 0 {
		return damaged("the header of an object without entries")
	}
	return nil
}

// A tally counts the entries of a version of an object.
type tally struct{ data, holes uint64 }

func (t *tally) encode(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, t.data), t.holes)
}

func (t *tally) decode(b []byte) error {
	if err := uvarints(b, "a tally", &t.data, &t.holes); err != nil {
		return err
	}
	if t.data == 0 && t.holes == 0 {
		return damaged("a tally of no entries")
	}
	return nil
}

// A mark says since which run of the disk an object is dirty.
type mark struct {
	run uint64
	// torn: a write has failed, so that blocks may not have their checksums
	// although the power did not fail.
	torn bool
}

func (m mark) encode(b []byte) []byte {
	torn := uint64(0)
	if m.torn {
		torn = 1
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, m.run), torn)
}

func (m *mark) decode(b []byte) error {
	var torn uint64
	if err := uvarints(b, "a mark", &m.run, &torn); err != nil {
		return err
	}
	if m.run == 0 || torn > 1 {
		return damaged("a mark has run %d and flags %d", m.run, torn)
	}
	m.torn = torn == 1
	return nil
}

// A run is the time from opening the disk to closing it.
type run struct {
	// number counts them from 1.
	number uint64
	// settled is the last run of which all that was written is known to be
	// durable: it and those before ended with Close, or were settled.
	settled uint64
}

func (r *run) encode(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, r.number), r.settled)
}

func (r *run) decode(b []byte) error {
	if err := uvarints(b, "the run", &r.number, &r.settled); err != nil {
		return err
	}
	if r.settled > r.number {
		return damaged("run %d is settled, the last one was %d", r.settled, r.number)
	}
	return nil
}
