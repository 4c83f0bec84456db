package ranged

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// bitmapHeader is that of a block with the bits of a segment.
const bitmapHeader = 56

// maxSlots bounds the slots of a segment, so that their bits fit into a block.
const maxSlots = 16 << 10

func count(words []uint64) (n int64) {
	for _, w := range words {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// encodeBitmap makes the block with the bits of a segment.
func (g *geometry) encodeBitmap(seg int, words []uint64, addr int64, gen uint64) []byte {
	b := make([]byte, blockSize)
	copy(b, bitmapMagic)
	copy(b[16:], g.uuid[:])
	le.PutUint64(b[32:], gen)
	le.PutUint64(b[40:], uint64(addr))
	le.PutUint64(b[48:], uint64(seg))
	for i, w := range words {
		le.PutUint64(b[bitmapHeader+8*i:], w)
	}
	seal(b)
	return b
}

// parseBitmap decodes a block with the bits of a segment that has used places.
func (g *geometry) parseBitmap(b []byte, seg int, addr int64, used int32) ([]uint64, error) {
	if !sealed(b, bitmapMagic) || !bytes.Equal(b[16:32], g.uuid[:]) || int64(le.Uint64(b[40:])) != addr || le.Uint64(b[48:]) != uint64(seg) {
		return nil, fmt.Errorf("the block at %d does not have the places of segment %d: %w", addr, seg, snapshot.ErrDamaged)
	}
	words := make([]uint64, (g.perSegment()+63)/64)
	for i := range words {
		words[i] = le.Uint64(b[bitmapHeader+8*i:])
	}
	if n := count(words); n != int64(used) || g.perSegment()%64 != 0 && words[len(words)-1]>>(g.perSegment()%64) != 0 {
		return nil, fmt.Errorf("segment %d has %d places, expected %d: %w", seg, n, used, snapshot.ErrDamaged)
	}
	return words, nil
}

// readBitmap reads the bits of a segment.
func (g *geometry) readBitmap(ctx context.Context, dev block.Device, seg int, addr int64, used int32) ([]uint64, error) {
	b := make([]byte, blockSize)
	if err := dev.ReadAt(ctx, b, addr, 0); err != nil {
		return nil, err
	}
	return g.parseBitmap(b, seg, addr, used)
}
