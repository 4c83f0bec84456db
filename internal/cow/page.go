package cow

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/strata-storage/strata/block"
)

// A page is one copy of a page of the map, as it is in the file.
type page struct {
	number   int64
	epoch    uint64
	sequence uint64
	states   words
}

// encode writes the page to p, a slot of the file with this uuid.
func (g *page) encode(p []byte, uuid *[16]byte) {
	le := binary.LittleEndian
	copy(p, pageMagic)
	clear(p[4:8])
	le.PutUint64(p[8:], uint64(g.number))
	le.PutUint64(p[16:], g.epoch)
	le.PutUint64(p[24:], g.sequence)
	for j, w := range g.states {
		le.PutUint64(p[pageHead+8*j:], w)
	}
	le.PutUint32(p[4:], slotSum(p, uuid))
}

// slotSum is the checksum of a page or a note. It covers the uuid, so that one
// of another file is not taken for one of this.
func slotSum(p []byte, uuid *[16]byte) uint32 {
	sum := crc32.Checksum(uuid[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, p[:4])
	sum = crc32.Update(sum, castagnoli, zeros[:4])
	return crc32.Update(sum, castagnoli, p[8:])
}

// decode reads a slot in which page number is expected. It returns what is
// wrong, the empty string if nothing is.
func (g *page) decode(p []byte, uuid *[16]byte, number, chunks int64) (wrong string) {
	le := binary.LittleEndian
	if string(p[:4]) != pageMagic || le.Uint32(p[4:]) != slotSum(p, uuid) {
		return "has a wrong checksum"
	}
	g.number = int64(le.Uint64(p[8:]))
	g.epoch = le.Uint64(p[16:])
	g.sequence = le.Uint64(p[24:])
	if g.number != number {
		return "belongs elsewhere"
	}
	for j := range g.states {
		w := le.Uint64(p[pageHead+8*j:])
		if w&(w>>1)&evenBits != 0 {
			return "has a chunk in an unknown state"
		}
		g.states[j] = w
	}
	if used := chunks - number*pageChunks; used < pageChunks && g.states.count(used, pageChunks, absent) < pageChunks-used {
		return "tells of chunks behind the end of the base"
	}
	return ""
}

// zeros are for reading only.
var zeros [MaxChunk]byte

// isEmpty reports whether nothing was ever written to a slot.
func isEmpty(p []byte) bool { return block.IsZero(p) }
