package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A Reader reads what Send, Write or Dump wrote.
type Reader struct {
	x *reader
	h Header
}

// NewReader reads the header of a stream.
func NewReader(r io.Reader) (*Reader, error) {
	x, err := newReader(r)
	if err != nil {
		return nil, err
	}
	h, err := x.header()
	if err != nil {
		return nil, err
	}
	return &Reader{x, h}, nil
}

// Header says what the stream is.
func (r *Reader) Header() Header { return r.h }

// Options are the options of Reader.Apply. The zero value refuses snapshots.
type Options struct {
	// Blank: the device holds zeros, which need not be written.
	Blank bool
	// Take makes what the device holds a snapshot.
	Take func(Mark) error
	// Progress is told up to where on the device something has been written.
	Progress func(end int64)
}

// Apply writes the stream to a device of its size, which must hold what a difference is
// from: nobody can know whether it does. When it returns nil the device holds what the
// stream is of, on stable storage. When it fails the device holds something between the
// two.
func (r *Reader) Apply(ctx context.Context, dev block.Device, o Options) error {
	if err := fits(r.h, dev); err != nil {
		return err
	}
	if err := r.x.apply(ctx, dev, o); err != nil {
		return err
	}
	return dev.Flush(ctx)
}

// Apply reads what Send wrote and writes it to a device, as Reader.Apply does. When it
// fails the whole stream may be applied again.
func Apply(ctx context.Context, r io.Reader, dev block.Device) (Header, error) {
	x, err := NewReader(r)
	if err != nil {
		return Header{}, err
	}
	if err := x.h.is(Difference); err != nil {
		return x.h, err
	}
	return x.h, x.Apply(ctx, dev, Options{})
}

// Restore reads what Dump wrote, takes the snapshots again, and leaves the
// origin as it was. There must be no snapshot yet. When it fails there is a
// part of them.
func Restore(ctx context.Context, r io.Reader, s *snapshot.Set) error {
	if n := len(s.List()); n > 0 {
		return fmt.Errorf("the store has %d snapshots, must have none: %w", n, block.ErrInvalid)
	}
	x, err := NewReader(r)
	if err != nil {
		return err
	}
	if err := x.h.is(Everything); err != nil {
		return err
	}
	return x.Apply(ctx, s.Origin(), Options{Take: func(m Mark) error {
		return s.Create(ctx, m.Name, snapshot.CreateOptions{Created: m.Created, Priority: m.Priority})
	}})
}

func fits(h Header, dev block.Device) error {
	switch info := dev.Info(); {
	case info.Size != h.Size:
		return fmt.Errorf("the stream is for a device of %d bytes, this one has %d: %w", h.Size, info.Size, block.ErrInvalid)
	case info.ReadOnly:
		return block.ErrReadOnly
	}
	return nil
}

// apply does what the records up to the end say.
func (x *reader) apply(ctx context.Context, dev block.Device, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	b := &behind{dev: dev, progress: o.Progress}
	defer b.abandon()
	defer cancel()
	written := int64(0) // nothing has been written behind it
	for {
		r, err := x.next()
		if err != nil || r.typ == typeEnd {
			return cmp.Or(b.wait(0), err)
		}
		switch {
		case r.typ == typeZero && o.Blank && r.off >= written:
			if err = b.check(r); err == nil {
				b.tell(r)
			}
		case r.typ == typeZero, r.typ == typeData && r.n == int64(len(r.payload)):
			if err := b.begin(ctx, x, r); err != nil {
				return err
			}
			written = max(written, r.off+r.n)
		case r.typ == typeSnapshot && o.Take != nil:
			if err := b.wait(0); err != nil {
				return err
			}
			var m Mark
			if err := json.Unmarshal(r.payload, &m); err != nil {
				return fmt.Errorf("record %d: %w: %w", x.seq-1, err, ErrStream)
			}
			err = o.Take(m)
		default:
			err = fmt.Errorf("type %q with %d bytes of %d: %w", r.typ, len(r.payload), r.n, ErrStream)
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", x.seq-1, err)
		}
	}
}

// Verify reads a stream of either content to its end and returns what is wrong
// with it.
func Verify(r io.Reader) error { return Follow(r, func(Header) {}, func(int64) {}) }

// Follow is Verify that tells the header, and up to where on the device each record is.
func Follow(r io.Reader, header func(Header), progress func(end int64)) error {
	x, err := NewReader(r)
	if err != nil {
		return err
	}
	header(x.h)
	for {
		rec, err := x.x.next()
		if err != nil || rec.typ == typeEnd {
			return err
		}
		progress(rec.off + rec.n)
	}
}
