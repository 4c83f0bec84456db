package cow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/strata-storage/strata/block"
)

// The format is described in docs/format-cow.md for people and programs that
// have nothing but the file.

// A Version is a version of the format.
type Version uint32

// Version1 is the only version so far.
const Version1 Version = 1

const (
	headerMagic = "STRATCOW"
	pageMagic   = "SCOW"
	noteMagic   = "NCOW"

	// slotSize is the size in bytes of a header and of a page of the map.
	slotSize = 4096
	// pageHead is what stands in a page before the states of the chunks.
	pageHead = 32
	// pageWords are the 64-bit words of states in a page, pageChunks the
	// chunks that they are about, two bits each.
	pageWords  = (slotSize - pageHead) / 8
	pageChunks = pageWords * 32
	// noteSize is the size in bytes of a note: a sector, which is never torn.
	// noteHead is what stands in it before the states of the chunks, of which
	// there are noteWords.
	noteSize  = 512
	noteHead  = 56
	noteWords = (noteSize - noteHead) / 8
	// pageNotes are the notes that tell of the chunks of one page.
	pageNotes = (pageWords + noteWords - 1) / noteWords
	// dataAlign is what the offset of the data is a multiple of.
	dataAlign = 64 << 10

	// MinChunk is the least size of a chunk in bytes.
	MinChunk = 512
	// MaxChunk is the greatest size of a chunk in bytes.
	MaxChunk = 64 << 10
	// DefaultChunk is the size of a chunk in bytes unless somebody chooses.
	DefaultChunk = 4096
	// maxChunks bounds the memory that opening a file takes.
	maxChunks = 1 << 34
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A layout says where in a difference file things are. It follows from the
// size of the base and of a chunk.
type layout struct {
	chunks, pages int64
	// maps are the offsets of the two copies of the map, notes and data those
	// of the notes and the data, end is the size of the file.
	maps             [2]int64
	notes, data, end int64
}

// newLayout returns the layout for a base of size bytes, or says why there
// cannot be one.
func newLayout(size, chunk int64) (layout, error) {
	if chunk < MinChunk || chunk > MaxChunk || chunk&(chunk-1) != 0 {
		return layout{}, fmt.Errorf("chunk is %d bytes, must be a power of two from %d to %d: %w", chunk, MinChunk, MaxChunk, block.ErrInvalid)
	}
	if size < 0 || size > maxChunks*chunk {
		return layout{}, fmt.Errorf("the base has %d bytes, at most %d are possible with chunks of %d bytes: %w", size, maxChunks*chunk, chunk, block.ErrInvalid)
	}
	l := layout{chunks: (size + chunk - 1) / chunk}
	l.pages = (l.chunks + pageChunks - 1) / pageChunks
	l.maps[0] = 2 * slotSize
	l.maps[1] = l.maps[0] + l.pages*slotSize
	l.notes = l.maps[1] + l.pages*slotSize
	l.data = roundUp(l.notes+l.pages*pageNotes*noteSize, dataAlign)
	l.end = l.data + roundUp(size, slotSize)
	return l, nil
}

// page returns the offset of a copy of page i.
func (l *layout) page(copy int, i int64) int64 { return l.maps[copy] + i*slotSize }

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

// FileSize returns the size in bytes of a difference file for a base of size
// bytes. Nearly all of it is a hole at first.
func FileSize(size, chunk int64) (int64, error) {
	l, err := newLayout(size, chunk)
	return l.end, err
}

// A header is what the file says about itself.
type header struct {
	version Version
	uuid    [16]byte
	// sequence numbers the headers: of two the higher one counts.
	sequence uint64
	// size of the base and of a chunk, in bytes.
	size, chunk int64
	// inUse: somebody may be writing to the file, or was when the power
	// went, so that one copy of a page may be torn.
	inUse bool
	// merging: the changes are being written to the base, which is not the
	// one of the fingerprint any more and not yet the next one.
	merging bool
	// epoch is that of the pages that count. Raising it empties the file.
	epoch uint64
	base  Fingerprint
}

const (
	flagInUse   = 1 << 0
	flagMerging = 1 << 1
)

// encode returns the header as a slot.
func (h *header) encode(l *layout) []byte {
	p := make([]byte, slotSize)
	le := binary.LittleEndian
	copy(p, headerMagic)
	le.PutUint32(p[8:], uint32(h.version))
	copy(p[16:32], h.uuid[:])
	le.PutUint64(p[32:], h.sequence)
	le.PutUint64(p[40:], uint64(h.size))
	le.PutUint32(p[48:], uint32(h.chunk))
	flags := uint32(0)
	if h.inUse {
		flags |= flagInUse
	}
	if h.merging {
		flags |= flagMerging
	}
	le.PutUint32(p[52:], flags)
	le.PutUint64(p[56:], h.epoch)
	le.PutUint64(p[64:], uint64(l.maps[0]))
	le.PutUint64(p[72:], uint64(l.maps[1]))
	le.PutUint64(p[80:], uint64(l.pages))
	le.PutUint64(p[88:], uint64(l.data))
	copy(p[96:128], h.base[:])
	le.PutUint64(p[128:], uint64(l.notes))
	le.PutUint32(p[12:], crc32.Checksum(p, castagnoli))
	return p
}

// decodeHeader is the inverse of encode. It believes nothing.
func decodeHeader(p []byte) (header, layout, error) {
	le := binary.LittleEndian
	if !bytes.HasPrefix(p, []byte(headerMagic)) {
		return header{}, layout{}, errNoHeader
	}
	h := header{version: Version(le.Uint32(p[8:]))}
	if h.version != Version1 {
		return h, layout{}, &VersionError{h.version}
	}
	sum := crc32.Update(crc32.Checksum(p[:12], castagnoli), castagnoli, zeros[:4])
	if crc32.Update(sum, castagnoli, p[16:slotSize]) != le.Uint32(p[12:]) {
		return h, layout{}, damaged("the header has a wrong checksum")
	}
	copy(h.uuid[:], p[16:])
	h.sequence = le.Uint64(p[32:])
	h.size = int64(le.Uint64(p[40:]))
	h.chunk = int64(le.Uint32(p[48:]))
	flags := le.Uint32(p[52:])
	h.inUse, h.merging = flags&flagInUse != 0, flags&flagMerging != 0
	h.epoch = le.Uint64(p[56:])
	copy(h.base[:], p[96:])
	l, err := newLayout(h.size, h.chunk)
	switch {
	case err != nil:
		return h, l, damaged("the header is impossible: %v", err)
	case flags&^(flagInUse|flagMerging) != 0:
		return h, l, damaged("the header has unknown flags %#x", flags)
	case int64(le.Uint64(p[64:])) != l.maps[0], int64(le.Uint64(p[72:])) != l.maps[1],
		int64(le.Uint64(p[80:])) != l.pages, int64(le.Uint64(p[88:])) != l.data, int64(le.Uint64(p[128:])) != l.notes:
		return h, l, damaged("the header does not agree with itself about where the map and the data are")
	case !block.IsZero(p[136:slotSize]):
		return h, l, damaged("the header has something where nothing may be")
	}
	return h, l, nil
}
