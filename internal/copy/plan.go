package copy

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// A piece of a device that is read by one request, or known to be zero.
type piece struct {
	off, n int64
	zero   bool
}

// limits are what two devices together allow.
type limits struct {
	// size of the source, in bytes, and padded to what the destination can
	// write.
	size, padded int64
	// align is the power of two that every boundary between pieces is a
	// multiple of.
	align int64
	// request is the longest piece of data.
	request int64
}

// zeroPiece is the longest piece that is known to be zero: long enough to
// cost nothing, short enough to show progress and to be cancelled.
const zeroPiece = 1 << 30

// window is how much of the source is asked for its extents at once, so that
// copying starts before all of them are known.
const window = 16 << 30

func limitsOf(from, to block.Info, request int) limits {
	align := int64(max(from.MinBlock, to.MinBlock, 1))
	return limits{
		size:    from.Size,
		padded:  roundUp(from.Size, int64(max(to.MinBlock, 1))),
		align:   align,
		request: max(int64(request)&^(align-1), align),
	}
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

// plan yields the pieces of src in order, from 0 to l.padded, until yield
// returns false.
func (l limits) plan(ctx context.Context, src block.Device, yield func(piece) bool) error {
	p := planner{limits: l, yield: yield}
	if !src.Info().CheapExtents {
		p.data(l.size)
		p.end()
		return nil
	}
	for off := int64(0); off < l.size && !p.stopped; off += window {
		for e, err := range src.Extents(ctx, block.Allocation, off, min(window, l.size-off)) {
			if err != nil {
				return fmt.Errorf("find the holes of the source at offset %d: %w", p.pos, err)
			}
			if e.Status&block.Zero != 0 {
				p.zeros(e.Off, e.End())
			} else {
				p.data(e.End())
			}
			if p.stopped {
				return nil
			}
		}
	}
	p.end()
	return nil
}

// planner cuts extents, which may begin and end anywhere, at aligned offsets.
// What lies in one unit with data is data.
type planner struct {
	limits
	yield   func(piece) bool
	pos     int64 // everything before it has been yielded
	stopped bool
}

// data yields what can be yielded before end, all of which may be data.
func (p *planner) data(end int64) {
	if end < p.size {
		end &^= p.align - 1
	}
	p.cut(end, p.request, false)
}

// zeros yields from off to end, of which the aligned inside is zero.
func (p *planner) zeros(off, end int64) {
	p.cut(min(roundUp(off, p.align), p.size), p.request, false)
	if end < p.size {
		end &^= p.align - 1
	}
	p.cut(end, max(zeroPiece&^(p.align-1), p.align), true)
}

// end yields the tail, with the padding behind the source.
func (p *planner) end() { p.data(p.size) }

// cut yields the pieces from pos to end; the last of the device includes the
// padding.
func (p *planner) cut(end, step int64, zero bool) {
	for p.pos < end && !p.stopped {
		n := min(step, end-p.pos)
		if p.pos+n == p.size {
			n = p.padded - p.pos
		}
		p.stopped = !p.yield(piece{p.pos, n, zero})
		p.pos += n
	}
}

// read fills buf from off on; what lies behind the end of the device reads as
// zeros.
func (l limits) read(ctx context.Context, dev block.Device, info block.Info, buf []byte, off int64) error {
	if over := off + int64(len(buf)) - info.Size; over > 0 {
		clear(buf[int64(len(buf))-over:])
		buf = buf[:int64(len(buf))-over]
	}
	step := len(buf)
	if info.MaxBlock > 0 {
		step = min(step, info.MaxBlock)
	}
	for len(buf) > 0 {
		n := min(step, len(buf))
		if err := dev.ReadAt(ctx, buf[:n], off, 0); err != nil {
			return err
		}
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}
