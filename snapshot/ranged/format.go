package ranged

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// The layout of the device. Numbers are little-endian.
const (
	blockSize = 4096
	// ringSlots are half for checkpoints, half for their copies.
	ringSlots = 64
	ringTurns = ringSlots / 2
	ringStart = blockSize
	// headerSize is that of a frame, the rest of the block is its payload.
	headerSize = 96
	payload    = blockSize - headerSize

	minSegment, maxSegment = 64 << 10, 16 << 20
	minSegments            = 8
	version                = 2
)

// The magic numbers of blocks.
const (
	superMagic  = "StrRngSB"
	ringMagic   = "StrRngCP"
	logMagic    = "StrRngLG"
	imageMagic  = "StrRngIM"
	nodeMagic   = "StrRngND"
	bitmapMagic = "StrRngBM"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// A geometry says where things are.
type geometry struct {
	uuid                [16]byte
	chunk, origin, size int64
	// base is the offset of the first segment.
	base, segment, segments int64
}

// newGeometry divides a device of size bytes.
func newGeometry(uuid [16]byte, size, origin, chunk int64) (geometry, error) {
	size = size &^ (blockSize - 1)
	g := geometry{uuid: uuid, chunk: chunk, origin: origin, size: size}
	g.segment = max(min(int64(1)<<bits.Len64(uint64(max(size/256-1, 1))), maxSegment), minSegment, chunk)
	g.segment = min(g.segment, maxSlots*chunk)
	unit := min(g.segment, 1<<20)
	g.base = (ringStart + ringSlots*blockSize + unit - 1) / unit * unit
	g.segments = (size - blockSize - g.base) / g.segment
	if g.chunks() >= max48 || g.size/chunk >= 1<<46 {
		return g, fmt.Errorf("an origin of %d and a store of %d bytes, expected less than 2^48 chunks and 2^46 places: %w", origin, size, block.ErrInvalid)
	}
	if g.segments < minSegments {
		return g, fmt.Errorf("the device has %d bytes, must be at least %d: %w", size, g.base+minSegments*g.segment+blockSize, block.ErrInvalid)
	}
	return g, nil
}

func (g *geometry) chunks() int64         { return (g.origin + g.chunk - 1) / g.chunk }
func (g *geometry) perSegment() int64     { return g.segment / g.chunk }
func (g *geometry) slots() int64          { return g.segments * g.perSegment() }
func (g *geometry) off(slot int64) int64  { return g.base + slot*g.chunk }
func (g *geometry) segmentOf(a int64) int { return int((a - g.base) / g.segment) }
func (g *geometry) start(i int) int64     { return g.base + int64(i)*g.segment }
func (g *geometry) valid(addr int64) bool {
	return addr >= g.base && addr < g.start(int(g.segments)) && (addr-g.base)%blockSize == 0
}

// starts reports whether a segment begins at an address.
func (g *geometry) starts(addr int64) bool { return g.valid(addr) && (addr-g.base)%g.segment == 0 }

// follow returns where the log goes on after an address.
func (g *geometry) follow(addr, ahead int64) int64 {
	if g.lastBlock(addr) {
		return ahead
	}
	return addr + blockSize
}

func (g *geometry) lastBlock(a int64) bool { return (a+blockSize-g.base)%g.segment == 0 }

// seal sets the checksum of a block, which it returns.
func seal(b []byte) uint32 {
	sum := crc32.Checksum(b[12:blockSize], castagnoli)
	le.PutUint32(b[8:], sum)
	return sum
}

// sealed reports whether b is a whole block with a magic.
func sealed(b []byte, magic string) bool {
	return len(b) >= blockSize && string(b[:8]) == magic && le.Uint32(b[8:]) == crc32.Checksum(b[12:blockSize], castagnoli)
}

// superblock encodes the superblock.
func (g *geometry) superblock() []byte {
	b := make([]byte, blockSize)
	copy(b, superMagic)
	le.PutUint32(b[12:], version)
	copy(b[16:], g.uuid[:])
	for i, v := range []int64{g.chunk, g.origin, g.size, g.base, g.segment, g.segments} {
		le.PutUint64(b[32+8*i:], uint64(v))
	}
	seal(b)
	return b
}

// parseSuper decodes a superblock of a device of size bytes.
func parseSuper(b []byte, size int64) (g geometry, err error) {
	switch {
	case len(b) < blockSize || string(b[:8]) != superMagic:
		return g, snapshot.ErrNoStore
	case !sealed(b, superMagic):
		return g, fmt.Errorf("the checksum of the superblock is wrong: %w", snapshot.ErrDamaged)
	case le.Uint32(b[12:]) != version:
		return g, fmt.Errorf("format version %d, expected %d: %w", le.Uint32(b[12:]), version, snapshot.ErrMismatch)
	}
	var v [6]int64
	for i := range v {
		v[i] = int64(le.Uint64(b[32+8*i:]))
	}
	chunk, origin := v[0], v[1]
	if chunk < snapshot.MinChunk || chunk > snapshot.MaxChunk || chunk&(chunk-1) != 0 || origin < 0 || v[2] < 0 {
		return g, fmt.Errorf("chunks of %d bytes, origin of %d: %w", chunk, origin, snapshot.ErrDamaged)
	}
	if v[2] > size {
		return g, fmt.Errorf("the store has %d bytes, the device only %d: %w", v[2], size, snapshot.ErrMismatch)
	}
	g, err = newGeometry([16]byte(b[16:32]), v[2], origin, chunk)
	if err != nil || g.size != v[2] || g.base != v[3] || g.segment != v[4] || g.segments != v[5] {
		return g, fmt.Errorf("the superblock contradicts itself: %w", snapshot.ErrDamaged)
	}
	return g, nil
}

// A frame is a block of the log or of a checkpoint. Frames are chains: each
// names the address of the next, and the next has the checksum of the one
// before.
type frame struct {
	magic string
	uuid  [16]byte
	// sum is the checksum of this frame, prev that of the one before.
	sum, prev uint32
	// seq is the number of the commit, or of the checkpoint.
	seq uint64
	// mount is drawn when the store is loaded: what was written then is told
	// from what was left over from before.
	mount, token uint64
	// mark is the newest commit that was durable when this one was made.
	mark uint64
	self int64
	// next is the address of the next frame of a checkpoint; in the log it is
	// the start of the segment where the log goes on after this one, so that
	// the way is known however little of a segment can be read.
	next int64
	// index counts the frames of a commit, last is set in the last one.
	index uint32
	last  bool
	data  []byte
}

// encode returns the block, and sets sum.
func (f *frame) encode() []byte {
	b := make([]byte, blockSize)
	copy(b, f.magic)
	le.PutUint32(b[12:], f.prev)
	copy(b[16:], f.uuid[:])
	for i, v := range []uint64{f.seq, f.mount, f.token, f.mark, uint64(f.self), uint64(f.next)} {
		le.PutUint64(b[32+8*i:], v)
	}
	le.PutUint32(b[80:], f.index)
	le.PutUint32(b[84:], uint32(len(f.data)))
	if f.last {
		b[88] = 1
	}
	copy(b[headerSize:], f.data)
	f.sum = seal(b)
	return b
}

// parseFrame decodes a block. ok is false if it is not a frame of this kind,
// at this address.
func (g *geometry) parseFrame(b []byte, magic string, addr int64) (f frame, ok bool) {
	if !sealed(b, magic) || !bytes.Equal(b[16:32], g.uuid[:]) {
		return f, false
	}
	f = frame{magic: magic, uuid: g.uuid, sum: le.Uint32(b[8:]), prev: le.Uint32(b[12:]), seq: le.Uint64(b[32:]), mount: le.Uint64(b[40:]),
		token: le.Uint64(b[48:]), mark: le.Uint64(b[56:]), self: int64(le.Uint64(b[64:])), next: int64(le.Uint64(b[72:])),
		index: le.Uint32(b[80:]), last: b[88] == 1}
	n := le.Uint32(b[84:])
	if n > payload || f.self != addr || !g.valid(f.next) || magic == logMagic && !g.starts(f.next) {
		return f, false
	}
	f.data = b[headerSize : headerSize+n]
	return f, true
}

// A checkpoint is an entry of the ring.
type checkpoint struct {
	// gen counts the checkpoints, seq is the commit that this one is.
	gen, seq, token uint64
	// log is where the log goes on.
	log int64
	// ahead is the segment where it goes on after that, 0 if that is not known.
	ahead int64
	// prev is the checksum that it continues.
	prev uint32
	// image is the first of blocks frames with the rest.
	image, blocks int64
}

func (c *checkpoint) encode(g *geometry) []byte {
	b := make([]byte, blockSize)
	copy(b, ringMagic)
	copy(b[16:], g.uuid[:])
	for i, v := range []uint64{c.gen, c.seq, c.token, uint64(c.log), uint64(c.ahead), uint64(c.prev), uint64(c.image), uint64(c.blocks)} {
		le.PutUint64(b[32+8*i:], v)
	}
	seal(b)
	return b
}

// parseCheckpoint decodes slot i of the ring.
func (g *geometry) parseCheckpoint(b []byte, i int) (c checkpoint, ok bool) {
	if !sealed(b, ringMagic) || !bytes.Equal(b[16:32], g.uuid[:]) {
		return c, false
	}
	c = checkpoint{gen: le.Uint64(b[32:]), seq: le.Uint64(b[40:]), token: le.Uint64(b[48:]),
		log: int64(le.Uint64(b[56:])), ahead: int64(le.Uint64(b[64:])), prev: uint32(le.Uint64(b[72:])),
		image: int64(le.Uint64(b[80:])), blocks: int64(le.Uint64(b[88:]))}
	limit := g.segments * g.segment / blockSize
	return c, c.gen%ringTurns == uint64(i%ringTurns) && g.valid(c.log) && (c.ahead == 0 || g.starts(c.ahead)) && g.valid(c.image) && c.blocks >= 1 && c.blocks <= limit
}

// ringSlot is where a checkpoint is, ringCopy where it is again.
func ringSlot(gen uint64) int64 { return ringStart + int64(gen%ringTurns)*blockSize }
func ringCopy(gen uint64) int64 { return ringSlot(gen) + ringTurns*blockSize }
