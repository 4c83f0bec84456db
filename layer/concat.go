package layer

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/strata-storage/strata/block"
)

// ConcatOptions are the options of Concat. There is none to choose.
type ConcatOptions struct {
	_ struct{} `doc:"Puts devices of any sizes end to end." long:"The first byte of each device follows the last byte of the one before. The size of every device must be a multiple of the largest block size among them. The result is read-only if one of them is."`
}

// Concat returns a device of the bytes of devs, one device after the other.
// Requests that cross a border are split. A border that is not at a multiple of
// 512 bytes cuts a sector in two: power cuts and writes at the same time may
// leave such a sector half written. A size that is not a multiple of the largest
// MinBlock among them is an error that wraps block.ErrInvalid.
func Concat(devs []block.Device, o ConcatOptions) (block.Device, error) {
	c := &concat{}
	c.layout = c
	if err := c.init(devs); err != nil {
		return nil, fmt.Errorf("concat: %w", err)
	}
	for i, dev := range devs {
		size := dev.Info().Size
		if m := int64(c.info.MinBlock); m > 1 && size%m != 0 {
			return nil, fmt.Errorf("concat: device %d of %d has %d bytes, must be a multiple of %d, "+
				"the largest block size among them; put a blocksize layer over the devices that have it: %w",
				i+1, len(devs), size, m, block.ErrInvalid)
		}
		if size > math.MaxInt64-c.info.Size {
			return nil, fmt.Errorf("concat: the devices together have more than %d bytes: %w",
				int64(math.MaxInt64), block.ErrInvalid)
		}
		if size > 0 {
			c.pieces = append(c.pieces, piece{c.info.Size, c.info.Size + size, i})
		}
		c.info.Size += size
	}
	if len(c.pieces) == 0 {
		c.pieces = []piece{{0, 0, 0}}
	}
	return c, nil
}

type concat struct {
	spread
	// pieces are the devices that are not empty, or one if all are.
	pieces []piece
}

// A piece is where one device lies.
type piece struct {
	start, end int64
	dev        int
}

// find returns the number of the piece that holds the byte at off, the last
// one for the end of the device.
func (c *concat) find(off int64) int {
	lo, hi := 0, len(c.pieces)-1
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); off < c.pieces[mid].end {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

func (c *concat) locate(off int64) (i int, at, room int64) {
	p := &c.pieces[c.find(off)]
	return p.dev, off - p.start, p.end - off
}

func (c *concat) ranges(parts []part, off, n int64) []part {
	for k, end := c.find(off), off+n; off < end; k++ {
		p := &c.pieces[k]
		n := min(p.end, end) - off
		parts = append(parts, part{dev: c.devs[p.dev], member: p.dev, off: off - p.start, n: n})
		off += n
	}
	return parts
}

func (c *concat) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := c.checkExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return func(yield func(block.Extent, error) bool) {
		for k, off, end := c.find(off), off, off+n; off < end; k++ {
			p := &c.pieces[k]
			n := min(p.end, end) - off
			for e, err := range c.memberExtents(ctx, mc, p.dev, off-p.start, n, p.start) {
				if !yield(e, err) || err != nil {
					return
				}
			}
			off += n
		}
	}
}
