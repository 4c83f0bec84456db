package layer

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/strata-storage/strata/block"
)

// StripeOptions are the options of Stripe.
type StripeOptions struct {
	_     struct{} `doc:"Spreads the data over devices in turn, chunk by chunk (RAID 0)." long:"Large requests use all devices at the same time. Each device is used up to the size of the smallest one, rounded down to whole chunks. There is no redundancy: the loss of one device is the loss of all."`
	Chunk int64    `name:"chunk" unit:"bytes" default:"64K" doc:"Bytes on one device before the next one follows, a power of two, at least 512 and the block size of every device."`
}

// Stripe returns a device whose first Chunk bytes lie on devs[0], the next on
// devs[1] and so on in turn. Its size is the number of devices times the size
// of the smallest one, rounded down to a multiple of Chunk: bytes beyond that
// are not used. The order of the devices and the chunk size must be the same
// every time.
func Stripe(devs []block.Device, o StripeOptions) (block.Device, error) {
	if o.Chunk == 0 {
		o.Chunk = 64 << 10
	}
	s := &stripe{chunk: o.Chunk}
	s.layout = s
	if err := s.init(devs); err != nil {
		return nil, fmt.Errorf("stripe: %w", err)
	}
	if least := int64(max(512, s.info.MinBlock)); o.Chunk < least || o.Chunk&(o.Chunk-1) != 0 {
		return nil, fmt.Errorf("stripe: chunk is %d bytes, must be a power of two and at least %d: %w",
			o.Chunk, least, block.ErrInvalid)
	}
	rows := s.smallest() / o.Chunk
	if rows == 0 {
		return nil, fmt.Errorf("stripe: the smallest device has %d bytes, less than one chunk of %d: %w",
			s.smallest(), o.Chunk, block.ErrInvalid)
	}
	s.width = int64(len(devs)) * o.Chunk
	if rows > math.MaxInt64/s.width {
		return nil, fmt.Errorf("stripe: the devices together have more than %d bytes: %w",
			int64(math.MaxInt64), block.ErrInvalid)
	}
	s.info.Size = rows * s.width
	return s, nil
}

type stripe struct {
	spread
	// chunk is the length of a piece on one device, width that of a row of
	// chunks over all devices.
	chunk, width int64
}

func (s *stripe) locate(off int64) (i int, at, room int64) {
	row := off / s.width
	rest := off - row*s.width
	in := rest & (s.chunk - 1)
	return int(rest / s.chunk), row*s.chunk + in, s.chunk - in
}

// below counts the bytes of device i that lie before off.
func (s *stripe) below(i int, off int64) int64 {
	row := off / s.width
	rest := off - row*s.width - int64(i)*s.chunk
	return row*s.chunk + min(max(rest, 0), s.chunk)
}

func (s *stripe) ranges(parts []part, off, n int64) []part {
	for i, dev := range s.devs {
		from, to := s.below(i, off), s.below(i, off+n)
		if from < to {
			parts = append(parts, part{dev: dev, member: i, off: from, n: to - from})
		}
	}
	return parts
}

func (s *stripe) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := s.checkExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(func(yield func(block.Extent, error) bool) {
		cursors := make([]cursor, len(s.devs))
		for i := range cursors {
			from, to := s.below(i, off), s.below(i, off+n)
			if from < to {
				cursors[i].start(s.memberExtents(ctx, mc, i, from, to-from, 0))
				defer cursors[i].stop()
			}
		}
		for off, end := off, off+n; off < end; {
			e, err := s.nextExtent(cursors, off, end)
			if !yield(e, err) || err != nil {
				return
			}
			off = e.End()
		}
	})
}

// nextExtent returns an extent that starts at off: whole rows if all devices
// say the same about them, so that a large hole is one step, else what the
// device at off says about its chunk.
func (s *stripe) nextExtent(cursors []cursor, off, end int64) (block.Extent, error) {
	i, at, room := s.locate(off)
	status, n, err := cursors[i].at(at)
	if err != nil {
		return block.Extent{}, err
	}
	if off%s.width == 0 && end-off >= s.width {
		rows := n / s.chunk
		for j := range cursors {
			other, n, err := cursors[j].at(at)
			if err != nil {
				return block.Extent{}, err
			}
			if other != status {
				rows = 0
				break
			}
			rows = min(rows, n/s.chunk)
		}
		if rows > 0 {
			return block.Extent{Off: off, Len: min(rows*s.width, end-off), Status: status}, nil
		}
	}
	return block.Extent{Off: off, Len: min(n, room, end-off), Status: status}, nil
}
