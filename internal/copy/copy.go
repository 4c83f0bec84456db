// Package copy moves the content of one device to another, with many requests
// in flight and without moving zeros.
package copy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/strata-storage/strata/block"
)

// Defaults of Options. They keep 8 MiB on the way: enough for a fast and
// distant server, and little enough to stay in the processor's cache between
// being read and being written. Few long requests are better than many short
// ones because the writes to one file wait for each other.
const (
	DefaultInFlight = 8
	DefaultRequest  = 1 << 20
	DefaultSparse   = 64 << 10
)

// Limits of Options; together they bound the memory of a copy to 4 GiB.
const (
	MaxInFlight = 256
	MaxRequest  = 16 << 20
)

// Options of a copy. The zero value is good for most.
type Options struct {
	// InFlight is the number of requests at the same time, 0 for
	// DefaultInFlight, at most MaxInFlight.
	InFlight int
	// Request is the length in bytes of one request, 0 for DefaultRequest,
	// at most MaxRequest.
	Request int
	// Sparse is the shortest run of zero bytes inside data that is zeroed
	// rather than written: 0 for DefaultSparse, negative for never.
	Sparse int
	// Zeroed says that the destination reads as zeros everywhere, so that
	// zeros need not be written at all.
	Zeroed bool
	// Unflushed leaves out the flush at the end.
	Unflushed bool
	// Progress, if not nil, is kept up to date.
	Progress *Progress
}

// Progress counts what a copy has done. It may be read at any time.
type Progress struct {
	// Done are bytes dealt with, whether moved or known to be zero.
	Done atomic.Int64
	// Data are bytes moved.
	Data atomic.Int64
	// Zeros are bytes zeroed or left out because they are zero already.
	Zeros atomic.Int64
}

func (p *Progress) add(data, zeros int64) {
	p.Data.Add(data)
	p.Zeros.Add(zeros)
	p.Done.Add(data + zeros)
}

// ErrTooSmall says that the source does not fit in the destination.
var ErrTooSmall = errors.New("the destination is too small")

// withDefaults checks o and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	if o.InFlight == 0 {
		o.InFlight = DefaultInFlight
	}
	if o.Request == 0 {
		o.Request = DefaultRequest
	}
	if o.Sparse == 0 {
		o.Sparse = DefaultSparse
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	if o.InFlight < 1 || o.InFlight > MaxInFlight {
		return o, fmt.Errorf("%d requests in flight: want 1 to %d", o.InFlight, MaxInFlight)
	}
	if o.Request < 512 || o.Request > MaxRequest {
		return o, fmt.Errorf("requests of %d bytes: want 512 to %d", o.Request, MaxRequest)
	}
	return o, nil
}

// Devices copies all of src to the beginning of dst, and flushes dst. When it
// returns nil the copy is complete and durable. When it returns an error,
// which says where it happened, dst holds part of the copy, and no request is
// in flight.
func Devices(ctx context.Context, dst, src block.Device, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	to, from := dst.Info(), src.Info()
	switch {
	case to.Size < from.Size:
		return fmt.Errorf("%w: it has %d bytes, the source %d", ErrTooSmall, to.Size, from.Size)
	case to.ReadOnly:
		return fmt.Errorf("the destination: %w", block.ErrReadOnly)
	}
	c := &copier{dst: dst, src: src, o: o, from: from, to: to, limits: limitsOf(from, to, o.Request)}
	if err := c.limits.run(ctx, src, o.InFlight, c.limits.request, c.move); err != nil {
		return err
	}
	if o.Unflushed {
		return nil
	}
	if err := dst.Flush(ctx); err != nil {
		return fmt.Errorf("flush the destination: %w", err)
	}
	return nil
}

type copier struct {
	dst, src block.Device
	from, to block.Info
	o        Options
	limits   limits
}

// move copies one piece with the help of buf.
func (c *copier) move(ctx context.Context, p piece, buf []byte) error {
	if p.zero {
		return c.zero(ctx, p.off, p.n)
	}
	buf = buf[:p.n]
	if err := c.limits.read(ctx, c.src, c.from, buf, p.off); err != nil {
		return fmt.Errorf("read %d bytes at offset %d of the source: %w", p.n, p.off, err)
	}
	for len(buf) > 0 {
		n, zero := c.run(buf)
		var err error
		if zero {
			err = c.zero(ctx, p.off, int64(n))
		} else {
			err = c.write(ctx, buf[:n], p.off)
		}
		if err != nil {
			return err
		}
		p.off, buf = p.off+int64(n), buf[n:]
	}
	return nil
}

// run returns the length of the longest beginning of buf that is all zeros,
// or that is to be written, in units of Options.Sparse.
func (c *copier) run(buf []byte) (n int, zero bool) {
	if c.o.Sparse < 0 {
		return len(buf), false
	}
	unit := int(roundUp(int64(c.o.Sparse), c.limits.align))
	zero = block.IsZero(buf[:min(unit, len(buf))])
	for n = unit; n < len(buf); n += unit {
		if block.IsZero(buf[n:min(n+unit, len(buf))]) != zero {
			return n, zero
		}
	}
	return len(buf), zero
}

func (c *copier) zero(ctx context.Context, off, n int64) error {
	if !c.o.Zeroed {
		if err := c.dst.Zero(ctx, off, n, 0); err != nil {
			return fmt.Errorf("zero %d bytes at offset %d of the destination: %w", n, off, err)
		}
	}
	c.o.Progress.add(0, n)
	return nil
}

func (c *copier) write(ctx context.Context, p []byte, off int64) error {
	step := len(p)
	if m := c.to.MaxBlock; m > 0 {
		step = min(step, m)
	}
	for len(p) > 0 {
		n := min(step, len(p))
		if err := c.dst.WriteAt(ctx, p[:n], off, 0); err != nil {
			return fmt.Errorf("write %d bytes at offset %d of the destination: %w", n, off, err)
		}
		c.o.Progress.add(int64(n), 0)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// run plans the pieces of src and has them done by that many goroutines, each
// with a buffer of that many bytes. It returns the first error once all of
// them are at rest.
func (l limits) run(ctx context.Context, src block.Device, inFlight int, buffer int64, do func(context.Context, piece, []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pieces := make(chan piece, inFlight)
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			buf := alignedBuffer(int(buffer))
			for p := range pieces {
				if context.Cause(ctx) != nil {
					continue // drain
				}
				if err := do(ctx, p, buf); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := l.plan(ctx, src, func(p piece) bool {
		select {
		case pieces <- p:
			return true
		case <-ctx.Done():
			return false
		}
	})
	if err != nil {
		cancel(err)
	}
	close(pieces)
	workers.Wait()
	return context.Cause(ctx)
}

// alignedBuffer returns n bytes that begin at a page, for direct I/O.
func alignedBuffer(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (page - 1)
	return b[skip : skip+n : skip+n]
}
