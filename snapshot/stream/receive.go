package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// Apply reads what Send wrote and writes it to a device, which must hold what
// the stream is a difference from: nobody can know whether it does. When it
// returns nil the device holds the other snapshot, on stable storage. When it
// fails the device holds something between the two, and the whole stream may
// be applied again.
func Apply(ctx context.Context, r io.Reader, dev block.Device) (Header, error) {
	x, err := newReader(r)
	if err != nil {
		return Header{}, err
	}
	h, err := x.header(difference)
	if err != nil {
		return h, err
	}
	if err := fits(h, dev); err != nil {
		return h, err
	}
	if err := x.apply(ctx, dev, nil); err != nil {
		return h, err
	}
	return h, dev.Flush(ctx)
}

// Restore reads what Dump wrote, takes the snapshots again, and leaves the
// origin as it was. There must be no snapshot yet. When it fails there is a
// part of them.
func Restore(ctx context.Context, r io.Reader, s *snapshot.Set) error {
	if n := len(s.List()); n > 0 {
		return fmt.Errorf("the store has %d snapshots, must have none: %w", n, block.ErrInvalid)
	}
	x, err := newReader(r)
	if err != nil {
		return err
	}
	h, err := x.header(everything)
	if err != nil {
		return err
	}
	dev := s.Origin()
	if err := fits(h, dev); err != nil {
		return err
	}
	err = x.apply(ctx, dev, func(m mark) error {
		return s.Create(ctx, m.Name, snapshot.CreateOptions{Created: m.Created, Priority: m.Priority})
	})
	if err != nil {
		return err
	}
	return dev.Flush(ctx)
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

// apply does what the records up to the end say. Snapshots are for take; nil
// refuses them.
func (x *reader) apply(ctx context.Context, dev block.Device, take func(mark) error) error {
	for {
		r, err := x.next()
		if err != nil {
			return err
		}
		switch {
		case r.typ == typeEnd:
			return nil
		case r.typ == typeData && r.n == int64(len(r.payload)):
			err = dev.WriteAt(ctx, r.payload, r.off, 0)
		case r.typ == typeZero:
			err = dev.Zero(ctx, r.off, r.n, 0)
		case r.typ == typeSnapshot && take != nil:
			var m mark
			if err := json.Unmarshal(r.payload, &m); err != nil {
				return fmt.Errorf("record %d: %w: %w", x.seq-1, err, ErrStream)
			}
			err = take(m)
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
func Verify(r io.Reader) error {
	x, err := newReader(r)
	for err == nil {
		var rec record
		if rec, err = x.next(); err == nil && rec.typ == typeEnd {
			return nil
		}
	}
	return err
}
