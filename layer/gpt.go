package layer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/strata-storage/strata/block"
)

const (
	gptSignature = "EFI PART"
	gptMinHeader = 92
	gptMinEntry  = 128
	// gptMaxTable bounds the entries in bytes; the usual table has 16 KiB.
	gptMaxTable = 1 << 20
)

// A gptHeader is what of a header is needed, checked.
type gptHeader struct {
	firstUsable, lastUsable uint64
	table                   uint64
	entries, entrySize      uint32
	tableCRC                uint32
}

// gptAt reads the table whose header is the sector at lba.
func (r *tableReader) gptAt(lba uint64, sector int64) ([]partition, error) {
	sectors := uint64(r.info.Size / sector)
	if lba == 0 || lba >= sectors {
		return nil, fmt.Errorf("the device has only %d sectors: %w", sectors, block.ErrInvalid)
	}
	b, err := r.read(int64(lba)*sector, sector)
	if err != nil {
		return nil, err
	}
	h, err := parseGPTHeader(b, lba, sectors)
	if err != nil {
		return nil, err
	}
	size := uint64(h.entries) * uint64(h.entrySize)
	if size > gptMaxTable {
		return nil, fmt.Errorf("%d entries of %d bytes, at most %d bytes are supported: %w",
			h.entries, h.entrySize, gptMaxTable, block.ErrInvalid)
	}
	if h.table < 2 || h.table >= sectors || size > (sectors-h.table)*uint64(sector) {
		return nil, fmt.Errorf("%d bytes of entries at sector %d are not inside the device: %w", size, h.table, block.ErrInvalid)
	}
	table, err := r.read(int64(h.table)*sector, int64(size))
	if err != nil {
		return nil, err
	}
	if sum := crc32.ChecksumIEEE(table); sum != h.tableCRC {
		return nil, fmt.Errorf("checksum of the entries is %08x, expected %08x: %w", sum, h.tableCRC, block.ErrInvalid)
	}
	return r.gptEntries(h, table, sector), nil
}

// parseGPTHeader checks the header in b, which was read from the sector lba of
// a device of so many sectors.
func parseGPTHeader(b []byte, lba, sectors uint64) (gptHeader, error) {
	le := binary.LittleEndian
	if string(b[:8]) != gptSignature {
		return gptHeader{}, fmt.Errorf("signature is %q, expected %q: %w", b[:8], gptSignature, block.ErrInvalid)
	}
	if rev := le.Uint32(b[8:]); rev>>16 != 1 {
		return gptHeader{}, fmt.Errorf("revision is %d.%d, expected 1.0: %w", rev>>16, rev&0xffff, block.ErrInvalid)
	}
	size := le.Uint32(b[12:])
	if size < gptMinHeader || size > uint32(len(b)) {
		return gptHeader{}, fmt.Errorf("header size is %d bytes, expected %d to %d: %w", size, gptMinHeader, len(b), block.ErrInvalid)
	}
	// The checksum is that of the header with zeros in its own place.
	sum := crc32.ChecksumIEEE(b[:16])
	sum = crc32.Update(sum, crc32.IEEETable, make([]byte, 4))
	sum = crc32.Update(sum, crc32.IEEETable, b[20:size])
	if want := le.Uint32(b[16:]); sum != want {
		return gptHeader{}, fmt.Errorf("checksum of the header is %08x, expected %08x: %w", sum, want, block.ErrInvalid)
	}
	if at := le.Uint64(b[24:]); at != lba {
		return gptHeader{}, fmt.Errorf("the header says that it is at sector %d: %w", at, block.ErrInvalid)
	}
	h := gptHeader{
		firstUsable: le.Uint64(b[40:]),
		lastUsable:  le.Uint64(b[48:]),
		table:       le.Uint64(b[72:]),
		entries:     le.Uint32(b[80:]),
		entrySize:   le.Uint32(b[84:]),
		tableCRC:    le.Uint32(b[88:]),
	}
	if h.entrySize < gptMinEntry || h.entrySize&(h.entrySize-1) != 0 {
		return h, fmt.Errorf("entry size is %d bytes, expected a power of two from %d on: %w", h.entrySize, gptMinEntry, block.ErrInvalid)
	}
	if h.lastUsable >= sectors {
		return h, fmt.Errorf("last usable sector is %d, the device has %d: %w", h.lastUsable, sectors, block.ErrInvalid)
	}
	return h, nil
}

func (r *tableReader) gptEntries(h gptHeader, table []byte, sector int64) []partition {
	le := binary.LittleEndian
	var list []partition
	for i := range int(h.entries) {
		e := table[i*int(h.entrySize):][:gptMinEntry]
		if block.IsZero(e[:16]) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first < h.firstUsable || last < first || last > h.lastUsable {
			list = append(list, partition{number: i + 1, err: fmt.Errorf(
				"partition %d has the sectors %d to %d, expected them inside %d to %d: %w",
				i+1, first, last, h.firstUsable, h.lastUsable, block.ErrInvalid)})
			continue
		}
		list = append(list, r.partition(i+1, first, last-first+1, sector))
	}
	return list
}
