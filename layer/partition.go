package layer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strata-storage/strata/block"
)

// A span is a range of bytes.
type span struct{ start, length int64 }

// A partition is one entry of a partition table.
type partition struct {
	number int
	span
	// container marks an extended partition, which only holds others.
	container bool
	// err is what is wrong with the entry.
	err error
}

// findPartition returns where partition number lies. A sector size of 0 is
// found out.
func findPartition(ctx context.Context, dev block.Device, sector, number int) (span, error) {
	r := &tableReader{ctx: ctx, dev: dev, info: dev.Info()}
	kind, list, err := r.partitions(int64(sector), number)
	if err != nil {
		return span{}, err
	}
	var known []string
	for _, p := range list {
		if p.number == number && p.container {
			return span{}, fmt.Errorf("partition %d is an extended one, which holds no data; "+
				"those inside it are numbered from 5 on: %w", number, block.ErrInvalid)
		}
		if p.number == number {
			return p.span, p.err
		}
		known = append(known, fmt.Sprint(p.number))
	}
	if len(known) == 0 {
		return span{}, fmt.Errorf("there is no partition %d: the %s has no partitions: %w", number, kind, block.ErrInvalid)
	}
	return span{}, fmt.Errorf("there is no partition %d: the %s has %s: %w",
		number, kind, strings.Join(known, ", "), block.ErrInvalid)
}

// errNoTable: the device does not begin with a partition table.
var errNoTable = fmt.Errorf("the device has no partition table: expected the signature 55 aa of an MBR at byte 510: %w",
	block.ErrInvalid)

// A tableReader reads partition tables.
type tableReader struct {
	ctx  context.Context
	dev  block.Device
	info block.Info
}

// partitions returns the kind of the table and what is in it, as far as is
// needed to find number.
func (r *tableReader) partitions(sector int64, number int) (kind string, list []partition, err error) {
	if r.info.Size < 512 {
		return "", nil, errNoTable
	}
	b, err := r.read(0, 512)
	if err != nil {
		return "", nil, err
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return "", nil, errNoTable
	}
	entries := mbrEntries(b)
	if slices.ContainsFunc(entries[:], func(e mbrEntry) bool { return e.kind == mbrProtective }) {
		list, err = r.gpt(sector)
		return "GPT", list, err
	}
	if sector == 0 {
		sector = 512
		if r.info.MinBlock >= 4096 {
			sector = 4096
		}
	}
	list, err = r.mbr(entries, sector, number)
	return "MBR", list, err
}

// read returns n bytes at off, which must lie inside the device, whatever the
// device's block sizes are.
func (r *tableReader) read(off, n int64) ([]byte, error) {
	unit := int64(max(r.info.MinBlock, 1))
	start := off &^ (unit - 1)
	end := min((off+n+unit-1)&^(unit-1), r.info.Size)
	buf := make([]byte, end-start)
	step := int64(len(buf))
	if m := int64(r.info.MaxBlock); m > 0 {
		step = min(step, m)
	}
	for at := int64(0); at < int64(len(buf)); at += step {
		p := buf[at:min(at+step, int64(len(buf)))]
		if err := r.dev.ReadAt(r.ctx, p, start+at, 0); err != nil {
			return nil, fmt.Errorf("cannot read the partition table at byte %d: %w", start+at, err)
		}
	}
	return buf[off-start:][:n], nil
}

// partition returns the partition of count sectors at lba.
func (r *tableReader) partition(number int, lba, count uint64, sector int64) partition {
	sectors := uint64(r.info.Size / sector)
	if lba > sectors || count > sectors-lba {
		return partition{number: number, err: fmt.Errorf(
			"partition %d: %d sectors at sector %d end beyond the device of %d sectors of %d bytes: %w",
			number, count, lba, sectors, sector, block.ErrInvalid)}
	}
	return partition{number: number, span: span{int64(lba) * sector, int64(count) * sector}}
}

// mbrProtective is the type of the entry that covers a GPT.
const mbrProtective = 0xee

// maxLogical bounds the chain of logical partitions.
const maxLogical = 256

type mbrEntry struct {
	kind       byte
	lba, count uint32
}

func (e mbrEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

// used reports whether the entry describes something.
func (e mbrEntry) used() bool { return e.kind != 0 && e.count != 0 }

// mbrEntries decodes the table in a sector that ends with the signature.
func mbrEntries(b []byte) (entries [4]mbrEntry) {
	for i := range entries {
		e := b[446+16*i:]
		entries[i] = mbrEntry{e[4], binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])}
	}
	return entries
}

func (r *tableReader) mbr(entries [4]mbrEntry, sector int64, number int) ([]partition, error) {
	var list []partition
	chain := uint64(0)
	for i, e := range entries {
		if !e.used() {
			continue
		}
		p := r.partition(i+1, uint64(e.lba), uint64(e.count), sector)
		p.container = e.extended()
		list = append(list, p)
		// Linux, too, follows only the first extended partition.
		if p.container && chain == 0 {
			chain = uint64(e.lba)
		}
	}
	if chain == 0 || number <= len(entries) {
		return list, nil
	}
	logical, err := r.logical(chain, sector)
	return append(list, logical...), err
}

// logical follows the chain of tables in the extended partition at sector
// first: each holds a partition, relative to itself, and the place of the
// next table, relative to first.
func (r *tableReader) logical(first uint64, sector int64) ([]partition, error) {
	var list []partition
	seen := map[uint64]bool{}
	for lba, more := first, true; more; {
		if seen[lba] {
			return nil, fmt.Errorf("the chain of logical partitions comes back to sector %d: %w", lba, block.ErrInvalid)
		}
		seen[lba] = true
		if len(seen) > maxLogical {
			return nil, fmt.Errorf("the chain of logical partitions has more than %d links: %w", maxLogical, block.ErrInvalid)
		}
		entries, err := r.link(lba, sector)
		if err != nil {
			return nil, fmt.Errorf("logical partitions: %w", err)
		}
		more = false
		table := lba
		for _, e := range entries[:2] {
			switch {
			case !e.used():
			case e.extended():
				lba, more = first+uint64(e.lba), true
			default:
				list = append(list, r.partition(5+len(list), table+uint64(e.lba), uint64(e.count), sector))
			}
		}
	}
	return list, nil
}

// link reads one table of the chain.
func (r *tableReader) link(lba uint64, sector int64) (entries [4]mbrEntry, err error) {
	if sectors := uint64(r.info.Size / sector); lba >= sectors {
		return entries, fmt.Errorf("the table at sector %d is not inside the device of %d sectors of %d bytes: %w",
			lba, sectors, sector, block.ErrInvalid)
	}
	b, err := r.read(int64(lba)*sector, 512)
	if err != nil {
		return entries, err
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return entries, fmt.Errorf("the table at sector %d does not end with the signature 55 aa: %w", lba, block.ErrInvalid)
	}
	return mbrEntries(b), nil
}

// gpt reads the primary table, or the backup at the end of the device if the
// primary one is damaged.
func (r *tableReader) gpt(sector int64) ([]partition, error) {
	sizes := []int64{512, 4096}
	if sector != 0 {
		sizes = []int64{sector}
	}
	var errs []error
	for _, primary := range []bool{true, false} {
		for _, size := range sizes {
			lba := uint64(1)
			if !primary {
				lba = uint64(max(r.info.Size/size, 1) - 1)
			}
			list, err := r.gptAt(lba, size)
			if err == nil {
				return list, nil
			}
			errs = append(errs, fmt.Errorf("header at sector %d of %d bytes: %w", lba, size, err))
		}
	}
	return nil, fmt.Errorf("no copy of the GPT is valid: %w", errors.Join(errs...))
}
