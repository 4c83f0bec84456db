package layer

import (
	"context"
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
)

// SliceOptions choose a part of a device.
type SliceOptions struct {
	_         struct{} `doc:"A part of a device: a range of bytes, or a partition." long:"With a partition, offset and length count inside it. MBR with logical partitions and GPT are known; a damaged GPT is read from its backup at the end of the device."`
	Offset    int64    `name:"offset" unit:"bytes" doc:"Where the part begins."`
	Length    int64    `name:"length" unit:"bytes" doc:"Length of the part; 0 is all that follows the offset."`
	Partition int      `name:"partition" doc:"Number of a partition as Linux counts: in an MBR 1 to 4 are primary, from 5 on logical; 0 is the whole device."`
	Sector    int      `name:"sector" unit:"bytes" doc:"Sector size in which the partition table counts, 512 or 4096; 0 finds out for a GPT, and means 512 for an MBR, or 4096 on a device with blocks of 4096 bytes or more."`
}

// Slice returns a part of dev. It must lie inside dev and begin and end at
// multiples of its MinBlock. If the offset is not a multiple of 512 bytes, the
// sectors of the slice are not those of dev: power cuts and writes at the same
// time may leave one half written. A partition is looked up once, now: the slice
// does not follow later changes of the table.
func Slice(dev block.Device, o SliceOptions) (block.Device, error) {
	s := &slice{dev: dev, info: dev.Info()}
	space := span{0, s.info.Size}
	switch {
	case o.Partition < 0:
		return nil, fmt.Errorf("slice: partition is %d, must be 1 or more: %w", o.Partition, block.ErrInvalid)
	case o.Sector != 0 && o.Sector != 512 && o.Sector != 4096:
		return nil, fmt.Errorf("slice: sector is %d, must be 512 or 4096: %w", o.Sector, block.ErrInvalid)
	case o.Partition == 0 && o.Sector != 0:
		return nil, fmt.Errorf("slice: sector is %d without a partition: %w", o.Sector, block.ErrInvalid)
	case o.Partition > 0:
		var err error
		if space, err = findPartition(context.Background(), dev, o.Sector, o.Partition); err != nil {
			return nil, fmt.Errorf("slice: %w", err)
		}
	}
	switch {
	case o.Offset < 0 || o.Length < 0:
		return nil, fmt.Errorf("slice: offset %d and length %d must not be negative: %w", o.Offset, o.Length, block.ErrInvalid)
	case o.Offset > space.length || o.Length > space.length-o.Offset:
		return nil, fmt.Errorf("slice: %d bytes at offset %d end beyond the %d that there are: %w",
			o.Length, o.Offset, space.length, block.ErrRange)
	}
	s.start, s.info.Size = space.start+o.Offset, space.length-o.Offset
	if o.Length > 0 {
		s.info.Size = o.Length
	}
	if m := int64(s.info.MinBlock); m > 1 && (s.start|s.info.Size)&(m-1) != 0 {
		return nil, fmt.Errorf("slice: %d bytes at offset %d must be multiples of the device's block size %d; "+
			"put a blocksize layer under the slice: %w", s.info.Size, s.start, m, block.ErrInvalid)
	}
	return s, nil
}

type slice struct {
	latch
	dev   block.Device
	info  block.Info
	start int64
}

func (s *slice) Info() block.Info { return s.info }

func (s *slice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := s.info.CheckRead(off, len(p)); err != nil {
		return s.refuse(err)
	}
	return s.dev.ReadAt(ctx, p, s.start+off, flags)
}

func (s *slice) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := s.info.CheckWrite(off, len(p)); err != nil {
		return s.refuse(err)
	}
	return s.dev.WriteAt(ctx, p, s.start+off, flags)
}

func (s *slice) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := s.info.CheckChange(off, n); err != nil {
		return s.refuse(err)
	}
	return s.dev.Zero(ctx, s.start+off, n, flags)
}

func (s *slice) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := s.info.CheckChange(off, n); err != nil {
		return s.refuse(err)
	}
	return s.dev.Trim(ctx, s.start+off, n, flags)
}

func (s *slice) Flush(ctx context.Context) error { return s.dev.Flush(ctx) }

func (s *slice) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := s.info.CheckRange(off, n); err != nil {
		return block.FailExtents(s.refuse(err))
	}
	return block.ShiftExtents(s.dev.Extents(ctx, mc, s.start+off, n), -s.start)
}

func (s *slice) Close() error {
	s.shut()
	return s.dev.Close()
}
