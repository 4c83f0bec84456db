package legacy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

const (
	magic   = 0x70416e53 // "SnAp"
	version = 1
	// sector is the unit of the chunk size in the header, and what a device
	// writes as a whole.
	sector = 512
	// entrySize is that of an exception in an area.
	entrySize = 16
	// emptyMark stands behind the fields of a header without a snapshot where
	// that was the intention: the kernel, which does not look there, says the
	// same of one that it has given up.
	emptyMark = "StrEmpty"
	// minChunks: a header, a metadata chunk, and data.
	minChunks = 3
)

// An entry is an exception: the snapshot has chunk old at chunk new of the store
// device, which is never 0.
type entry struct{ old, new int64 }

// A layout says where things lie on a store device.
type layout struct {
	chunk int64
	shift int
	// total is the number of chunks of the device, origin that of the origin.
	total, origin int64
	// perArea is the number of exceptions of an area.
	perArea int64
}

func newLayout(chunk, size, origin int64) layout {
	shift := bits.TrailingZeros64(uint64(chunk))
	return layout{chunk: chunk, shift: shift, total: size >> shift, origin: (origin-1)>>shift + 1, perArea: chunk / entrySize}
}

// meta returns the metadata chunk of an area.
func (l layout) meta(area int64) int64 { return 1 + area*(l.perArea+1) }

// areas returns the number of areas whose metadata chunks are on the device.
func (l layout) areas() int64 { return l.metaBefore(l.total) }

// metaBefore returns the number of metadata chunks before chunk n.
func (l layout) metaBefore(n int64) int64 {
	if n <= 1 {
		return 0
	}
	return (n-2)/(l.perArea+1) + 1
}

// isData reports whether data can lie in a chunk.
func (l layout) isData(n int64) bool {
	return n > 1 && n < l.total && (n-1)%(l.perArea+1) != 0
}

// data returns the number of chunks for data from one chunk up to another.
func (l layout) data(from, to int64) int64 {
	return to - from - (l.metaBefore(to) - l.metaBefore(from))
}

// limit returns the number of exceptions for which there is room. The list must
// end with an entry that is 0, and be it in an area that has no other.
func (l layout) limit() int64 {
	return min(l.data(2, l.total), l.areas()*l.perArea-1)
}

// header returns the first chunk.
func (l layout) header(valid bool) []byte {
	p := make([]byte, l.chunk)
	binary.LittleEndian.PutUint32(p, magic)
	if valid {
		p[4] = 1
	} else {
		copy(p[16:], emptyMark)
	}
	binary.LittleEndian.PutUint32(p[8:], version)
	binary.LittleEndian.PutUint32(p[12:], uint32(l.chunk/sector))
	return p
}

// parseHeader returns the size of chunks, and whether there is a snapshot.
func parseHeader(p []byte) (chunk int64, valid bool, err error) {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(p[4*i:]) }
	if word(0) != magic {
		return 0, false, fmt.Errorf("the device begins with %#x, expected %#x: %w", word(0), uint32(magic), snapshot.ErrNoStore)
	}
	if word(2) != version {
		return 0, false, fmt.Errorf("version %d of the format, expected %d: %w", word(2), version, snapshot.ErrMismatch)
	}
	if word(1) > 1 {
		return 0, false, fmt.Errorf("the flag valid is %d, expected 0 or 1: %w", word(1), snapshot.ErrDamaged)
	}
	chunk = int64(word(3)) * sector
	if chunk < snapshot.MinChunk || chunk > snapshot.MaxChunk || chunk&(chunk-1) != 0 {
		return 0, false, fmt.Errorf("chunks of %d bytes, expected a power of two from %d to %d: %w",
			chunk, snapshot.MinChunk, snapshot.MaxChunk, snapshot.ErrMismatch)
	}
	if word(1) == 0 && !bytes.HasPrefix(p[16:], []byte(emptyMark)) {
		return 0, false, fmt.Errorf("the kernel has given up the snapshot in this store, as it does when a store is full or cannot be written, and what the snapshot had is lost; for a new one zero the first 64 KiB of the device: %w", snapshot.ErrDamaged)
	}
	return chunk, word(1) == 1, nil
}

// put writes an exception at its position in a metadata chunk.
func put(p []byte, i int64, e entry) {
	binary.LittleEndian.PutUint64(p[i*entrySize:], uint64(e.old))
	binary.LittleEndian.PutUint64(p[i*entrySize+8:], uint64(e.new))
}

// parseArea returns the exceptions of a metadata chunk up to the end of the
// list, and whether what follows is not zeros.
func (l layout) parseArea(p []byte) (all []entry, litter bool, err error) {
	for i := int64(0); i < l.perArea; i++ {
		q := p[i*entrySize:]
		e := entry{int64(binary.LittleEndian.Uint64(q)), int64(binary.LittleEndian.Uint64(q[8:]))}
		switch {
		case e.new == 0:
			return all, !block.IsZero(q), nil
		case e.new < 0 || e.new >= l.total:
			return nil, false, fmt.Errorf("chunk %d lies at %d, the device has only %d chunks: %w", uint64(e.old), uint64(e.new), l.total, snapshot.ErrDamaged)
		case !l.isData(e.new):
			return nil, false, fmt.Errorf("chunk %d lies at %d, where metadata are: %w", uint64(e.old), e.new, snapshot.ErrDamaged)
		case e.old < 0 || e.old >= l.origin:
			return nil, false, fmt.Errorf("there is an exception for chunk %d, the origin has %d: %w", uint64(e.old), l.origin, snapshot.ErrMismatch)
		}
		all = append(all, e)
	}
	return all, false, nil
}

// readAreas calls f with the exceptions of each area from one on. The last one
// is not full, or there is no room for the next.
func (l layout) readAreas(ctx context.Context, dev block.Device, area int64, f func(area int64, all []entry, litter bool) error) error {
	p := make([]byte, l.chunk)
	for ; area < l.areas(); area++ {
		if err := readAll(ctx, dev, p, l.meta(area)<<l.shift); err != nil {
			return err
		}
		all, litter, err := l.parseArea(p)
		if err != nil {
			return fmt.Errorf("area %d: %w", area, err)
		}
		if err := f(area, all, litter); err != nil {
			return fmt.Errorf("area %d: %w", area, err)
		}
		if int64(len(all)) < l.perArea {
			return nil
		}
	}
	return nil
}

// readAll reads any number of bytes.
func readAll(ctx context.Context, dev block.Device, p []byte, off int64) error {
	for len(p) > 0 {
		n := limited(dev, len(p))
		if err := dev.ReadAt(ctx, p[:n], off, 0); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// writeAll writes any number of bytes.
func writeAll(ctx context.Context, dev block.Device, p []byte, off int64) error {
	for len(p) > 0 {
		n := limited(dev, len(p))
		if err := dev.WriteAt(ctx, p[:n], off, 0); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func limited(dev block.Device, n int) int {
	if limit := dev.Info().MaxBlock; limit > 0 {
		return min(n, limit)
	}
	return n
}
