package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/strata-storage/strata/block"
)

// FormatVersion is the version of the formats of slab and metadata.
const FormatVersion = 1

const (
	superMagic = "StrDskSB"
	// slabBase is where the places begin.
	slabBase = 1 << 20
	// segmentBlocks is the number of places that are managed together.
	segmentBlocks = 1024
	segmentSize   = segmentBlocks * BlockSize
	// minSlab is the size of the smallest slab in bytes.
	minSlab = slabBase + segmentSize + BlockSize
	maxSlab = 1 << 60
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of a block.
func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// A UUID names a disk.
type UUID [16]byte

// String returns u in hexadecimal.
func (u UUID) String() string { return hex.EncodeToString(u[:]) }

// A super is the superblock: what ties slab and metadata together.
type super struct {
	id UUID
	// size is that of the slab in bytes, a multiple of BlockSize.
	size int64
}

// blocks is the number of places.
func (s super) blocks() uint64 { return uint64(s.size-slabBase-BlockSize) / BlockSize }

// copyAt is where the copy of the superblock is.
func (s super) copyAt() int64 { return s.size - BlockSize }

// encode returns a block:
//
//	magic 8, checksum of what follows 4, version 4, UUID 16, size 8,
//	block size 4, segment in blocks 4, base 8, zeros
func (s super) encode() []byte {
	b := make([]byte, BlockSize)
	copy(b, superMagic)
	binary.LittleEndian.PutUint32(b[12:], FormatVersion)
	copy(b[16:], s.id[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(s.size))
	binary.LittleEndian.PutUint32(b[40:], BlockSize)
	binary.LittleEndian.PutUint32(b[44:], segmentBlocks)
	binary.LittleEndian.PutUint64(b[48:], slabBase)
	binary.LittleEndian.PutUint32(b[8:], checksum(b[12:]))
	return b
}

// errNoSuper says that there is no superblock at all.
var errNoSuper = fmt.Errorf("no superblock: %w", ErrForeign)

// parseSuper is the inverse of encode.
func parseSuper(b []byte) (super, error) {
	if len(b) != BlockSize {
		return super{}, fmt.Errorf("a superblock of %d bytes, expected %d: %w", len(b), BlockSize, ErrForeign)
	}
	if string(b[:8]) != superMagic {
		return super{}, errNoSuper
	}
	if got, want := binary.LittleEndian.Uint32(b[8:]), checksum(b[12:]); got != want {
		return super{}, damaged("the superblock has the checksum %08x, expected %08x", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[12:]); v != FormatVersion {
		return super{}, fmt.Errorf("the disk has format version %d, this program knows %d: %w", v, FormatVersion, ErrForeign)
	}
	s := super{id: UUID(b[16:32]), size: int64(binary.LittleEndian.Uint64(b[32:]))}
	if s.size < minSlab || s.size > maxSlab || s.size%BlockSize != 0 {
		return super{}, damaged("the superblock has the size %d", s.size)
	}
	if !bytes.Equal(b, s.encode()) {
		return super{}, damaged("the superblock has sizes that this version does not have")
	}
	return s, nil
}

// slabSize is what is used of a device of this size.
func slabSize(n int64) int64 { return min(n, maxSlab) &^ (BlockSize - 1) }

// checkSlab refuses devices that cannot be a slab.
func checkSlab(info block.Info) error {
	switch {
	case info.ReadOnly:
		return fmt.Errorf("the slab is read-only: %w", block.ErrReadOnly)
	case info.MinBlock > BlockSize:
		return fmt.Errorf("the slab has blocks of %d bytes, expected %d at most: %w", info.MinBlock, BlockSize, block.ErrInvalid)
	case info.MaxBlock != 0 && info.MaxBlock < BlockSize:
		return fmt.Errorf("the slab takes %d bytes at once, expected %d at least: %w", info.MaxBlock, BlockSize, block.ErrInvalid)
	case slabSize(info.Size) < minSlab:
		return fmt.Errorf("the slab has %d bytes, expected %d at least: %w", info.Size, minSlab, block.ErrInvalid)
	}
	return nil
}

// readSuper reads the superblock of a slab, or its copy, which must be at the
// end of what was formatted.
func readSuper(ctx context.Context, slab block.Device) (super, error) {
	b := make([]byte, BlockSize)
	if err := slab.ReadAt(ctx, b, 0, 0); err != nil {
		return super{}, fmt.Errorf("reading the superblock: %w", err)
	}
	s, err := parseSuper(b)
	if err != nil {
		if rerr := slab.ReadAt(ctx, b, slabSize(slab.Info().Size)-BlockSize, 0); rerr != nil {
			return super{}, errors.Join(err, fmt.Errorf("reading the copy of the superblock: %w", rerr))
		}
		second, cerr := parseSuper(b)
		if cerr != nil {
			return super{}, err
		}
		s = second
	}
	if have := slab.Info().Size; have < s.size {
		return super{}, fmt.Errorf("the slab of disk %v has %d bytes, expected %d: it was truncated: %w", s.id, have, s.size, ErrForeign)
	}
	return s, nil
}

// Identify returns the name of the disk that a slab belongs to, and false if it belongs to
// none.
func Identify(ctx context.Context, slab block.Device) (id UUID, is bool, err error) {
	if slabSize(slab.Info().Size) < minSlab {
		return id, false, nil
	}
	s, err := readSuper(ctx, slab)
	if errors.Is(err, errNoSuper) {
		return id, false, nil
	}
	return s.id, err == nil, err
}

// mendSuper writes the superblock, or its copy, where it is not what it should be.
func mendSuper(ctx context.Context, slab block.Device, s super) error {
	want, b := s.encode(), make([]byte, BlockSize)
	for _, off := range []int64{s.copyAt(), 0} {
		// What cannot be read may be so after it is written.
		if err := slab.ReadAt(ctx, b, off, 0); err != nil || !bytes.Equal(b, want) {
			return writeSuper(ctx, slab, s)
		}
	}
	return nil
}

// writeSuper makes the superblock and its copy durable.
func writeSuper(ctx context.Context, slab block.Device, s super) error {
	b := s.encode()
	for _, off := range []int64{s.copyAt(), 0} {
		if err := slab.WriteAt(ctx, b, off, 0); err != nil {
			return fmt.Errorf("writing the superblock: %w", err)
		}
	}
	if err := slab.Flush(ctx); err != nil {
		return fmt.Errorf("flushing the superblock: %w", err)
	}
	return nil
}
