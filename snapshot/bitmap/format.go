package bitmap

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// The parts of the format; docs/format-bitmap.md has the whole.
const (
	pageSize  = 4096
	pageHead  = 32
	version   = 1
	signature = "strata-bitmap-64"

	stateBlocks   = 24
	statePayload  = pageSize - pageHead
	bitsPerPage   = (pageSize - pageHead) * 8
	dirPerPage    = (pageSize - pageHead) / 8
	bucketChunks  = 64
	recSize       = 24
	leafHead      = 56
	recsPerLeaf   = (pageSize - leafHead) / recSize
	maxLeaves     = (bucketChunks*maxSnapshots + recsPerLeaf - 1) / recsPerLeaf
	tagHead       = 40
	tagEntry      = 16
	maxSnapshots  = 64
	hole          = int64(-1)
	firstHeader   = 1
	firstJournal  = 3
	minJournal    = 80
	maxJournal    = 1 + (pageSize-tagHead)/tagEntry
	journalBlocks = 100
)

// The kinds of pages.
const (
	superPage  = 'S'
	headerPage = 'H'
	tagPage    = 'T'
	statePage  = 'V'
	dirPage    = 'D'
	bitsPage   = 'B'
	leafPage   = 'L'
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func magic(kind byte) uint32 {
	return uint32('S') | uint32('B')<<8 | uint32('M')<<16 | uint32(kind)<<24
}

func sum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// seal fills in the head of a page.
func seal(p []byte, kind byte, block int64, seq, id uint64) {
	le.PutUint32(p, magic(kind))
	le.PutUint32(p[4:], 0)
	le.PutUint64(p[8:], uint64(block))
	le.PutUint64(p[16:], seq)
	le.PutUint64(p[24:], id)
	le.PutUint32(p[4:], sum(p))
}

// verify reports what is wrong with the head of a page.
func verify(p []byte, kind byte, block int64, id uint64) error {
	var zero [4]byte
	crc := crc32.Update(crc32.Update(sum(p[:4]), castagnoli, zero[:]), castagnoli, p[8:])
	switch {
	case le.Uint32(p) != magic(kind):
		return fmt.Errorf("block %d is not of the kind %q", block, kind)
	case le.Uint32(p[4:]) != crc:
		return fmt.Errorf("block %d: its checksum is %08x, expected %08x", block, le.Uint32(p[4:]), crc)
	case int64(le.Uint64(p[8:])) != block:
		return fmt.Errorf("block %d says that it is block %d", block, int64(le.Uint64(p[8:])))
	case le.Uint64(p[24:]) != id:
		return fmt.Errorf("block %d belongs to another store", block)
	}
	return nil
}

// A layout says where things are. Positions and lengths are in blocks.
type layout struct {
	uuid             [16]byte
	size, origin     int64 // in bytes
	chunk            int64
	journal          int64
	state, dir, bits int64
	dirs, maps       int64
	// data is the offset of chunk 0 of the store in bytes, chunks their number.
	data, chunks int64
	// buckets is their number, chunks of the origin their number.
	buckets, originChunks int64
	last                  int64
}

func (l *layout) id() uint64 { return le.Uint64(l.uuid[:]) }

// group is the unit of allocation of leaves in bytes.
func (l *layout) group() int64 { return max(l.chunk, pageSize) }

// plan computes the layout from sizes.
func (l *layout) plan() error {
	l.last = l.size/pageSize - 1
	l.originChunks = (l.origin + l.chunk - 1) / l.chunk
	l.buckets = (l.originChunks + bucketChunks - 1) / bucketChunks
	l.dirs = (l.buckets + dirPerPage - 1) / dirPerPage
	l.maps = (l.size/l.chunk + bitsPerPage - 1) / bitsPerPage
	l.state = firstJournal + l.journal
	l.dir = l.state + stateBlocks
	l.bits = l.dir + l.dirs
	g := l.group()
	l.data = ((l.bits+l.maps)*pageSize + g - 1) / g * g
	if l.chunks = (l.last*pageSize - l.data) / g * (g / l.chunk); l.chunks < 2*g/l.chunk {
		return fmt.Errorf("a device of %d bytes is too small for a bitmap store of this origin, expected at least %d: %w",
			l.size, l.data+2*g+pageSize, block.ErrNoSpace)
	}
	return nil
}

// super returns the superblock for a block of the device.
func (l *layout) super(at int64) []byte {
	p := make([]byte, pageSize)
	copy(p[32:], signature)
	le.PutUint32(p[48:], version)
	le.PutUint32(p[52:], uint32(l.chunk))
	copy(p[56:], l.uuid[:])
	le.PutUint64(p[72:], uint64(l.size))
	le.PutUint64(p[80:], uint64(l.origin))
	le.PutUint32(p[88:], uint32(l.journal))
	seal(p, superPage, at, 0, l.id())
	return p
}

// match reports whether a device that begins with head has a store.
func match(head []byte) bool {
	return len(head) >= 48 && string(head[32:48]) == signature
}

// parseSuper reads a superblock, which was at a block of a device.
func parseSuper(p []byte, at int64) (l layout, err error) {
	if !match(p) {
		return l, fmt.Errorf("block %d has no superblock: %w", at, snapshot.ErrNoStore)
	}
	copy(l.uuid[:], p[56:])
	if err := verify(p, superPage, at, l.id()); err != nil {
		return l, fmt.Errorf("the superblock: %w: %w", err, snapshot.ErrDamaged)
	}
	if v := le.Uint32(p[48:]); v != version {
		return l, fmt.Errorf("the store has version %d, expected %d: %w", v, version, snapshot.ErrMismatch)
	}
	l.chunk, l.journal = int64(le.Uint32(p[52:])), int64(le.Uint32(p[88:]))
	l.size, l.origin = int64(le.Uint64(p[72:])), int64(le.Uint64(p[80:]))
	c := l.chunk
	if c < snapshot.MinChunk || c > snapshot.MaxChunk || c&(c-1) != 0 || l.size < 0 || l.origin < 0 || l.origin > 1<<62 ||
		l.journal < minJournal || l.journal > maxJournal {
		return l, fmt.Errorf("the superblock has values that cannot be: chunk %d, size %d, origin %d, journal %d: %w",
			c, l.size, l.origin, l.journal, snapshot.ErrDamaged)
	}
	return l, nil
}
