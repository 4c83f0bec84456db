package blocktest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// Do carries out op on dev, compares and notes the effect. An error that wraps
// ErrBroken says what is wrong with dev. Every other error is dev's own, and
// the range of op holds then what it held before or what op would have left. A
// request that dev must refuse and refuses gives nil.
func (m *Model) Do(ctx context.Context, dev block.Device, op Op) error {
	if want := m.refusal(op); want != nil {
		err := m.request(ctx, dev, op)
		if !errors.Is(err, want) {
			return broken("%v returned %v, want %q", op, told(err), want)
		}
		return nil
	}
	err := m.request(ctx, dev, op)
	if op.Flags&block.NoWait != 0 && errors.Is(err, block.ErrWouldBlock) {
		if !m.info.NoWait {
			return broken("%v returned %v without Info().NoWait", op, told(err))
		}
		m.effect(op, false)
		op.Flags &^= block.NoWait
		err = m.request(ctx, dev, op)
	}
	switch {
	case err == nil:
		m.effect(op, true)
		return nil
	case errors.Is(err, ErrBroken):
		return err
	case op.Kind == Zero && op.Flags&block.FastZero != 0 && errors.Is(err, block.ErrNotSupported):
		return nil
	}
	m.effect(op, false)
	return fmt.Errorf("%v: %w", op, err)
}

// refusal returns the error that the device must answer op with, nil if it
// must not refuse it.
func (m *Model) refusal(op Op) error {
	var err error
	switch op.Kind {
	case Read:
		err = m.info.CheckRead(op.Off, int(op.Len))
	case Write:
		err = m.info.CheckWrite(op.Off, int(op.Len))
	case Zero, Trim:
		err = m.info.CheckChange(op.Off, op.Len)
	case Extents:
		err = m.info.CheckRange(op.Off, op.Len)
	}
	for _, meaning := range []error{block.ErrReadOnly, block.ErrRange, block.ErrInvalid} {
		if errors.Is(err, meaning) {
			return meaning
		}
	}
	return nil
}

// request sends op to dev and compares what a read or the extents return.
func (m *Model) request(ctx context.Context, dev block.Device, op Op) error {
	switch op.Kind {
	case Read:
		p := filled(0, op.Len, poison)
		if err := dev.ReadAt(ctx, p, op.Off, op.Flags); err != nil {
			return err
		}
		if err := m.check(p, op.Off); err != nil {
			return fmt.Errorf("%v: %w", op, err)
		}
		return nil
	case Write:
		return dev.WriteAt(ctx, filled(op.Off, op.Len, op.Seed), op.Off, op.Flags)
	case Zero:
		return dev.Zero(ctx, op.Off, op.Len, op.Flags)
	case Trim:
		return dev.Trim(ctx, op.Off, op.Len, op.Flags)
	case Flush:
		return dev.Flush(ctx)
	case Extents:
		return m.extents(ctx, dev, op)
	}
	return fmt.Errorf("blocktest: unknown operation %d", op.Kind)
}

// poison is the seed of the bytes in buffers that a device has yet to fill.
const poison = 0x6b6b6b6b

// effect notes what op did, or may have done.
func (m *Model) effect(op Op, sure bool) {
	c := change{off: op.Off, n: op.Len, sure: sure, durable: op.Flags&block.FUA != 0}
	switch op.Kind {
	case Write:
		c.data = filled(op.Off, op.Len, op.Seed)
	case Zero:
	case Trim:
		c.sure = false
	case Flush:
		if sure {
			m.flushed()
		}
		return
	default:
		return
	}
	if c.n > 0 {
		m.note(c)
	}
}

// extents checks the extents of a range against the rules and against the
// content.
func (m *Model) extents(ctx context.Context, dev block.Device, op Op) error {
	list, err := collectExtents(dev.Extents(ctx, block.Allocation, op.Off, op.Len), op.Off, op.Len)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Status&block.Zero == 0 {
			continue
		}
		if err := m.checkZeros(e); err != nil {
			return fmt.Errorf("%v: %w", op, err)
		}
	}
	return nil
}

// checkZeros reports whether e can read as zeros. Of a large extent it looks
// at the sectors that it knows.
func (m *Model) checkZeros(e block.Extent) error {
	for i := range m.sectors {
		start := i * sectorSize
		from, to := max(start, e.Off), min(start+sectorSize, e.End(), m.info.Size)
		if from >= to {
			continue
		}
		if s := m.sectors[i]; !s.now.allows(zeroSector[:to-from], int(from-start)) {
			return broken("extent %d %d is said to read as zeros, but byte %d does not", e.Off, e.Len, from)
		}
	}
	return nil
}

// wrongBytes says how got, read at off, differs from what c allows.
func wrongBytes(got []byte, off int64, c *choice, from int) error {
	want := c.images[0][from : from+len(got)]
	at := 0
	for at < len(got)-1 && got[at] == want[at] {
		at++
	}
	what := "the bytes written last"
	if len(c.images) > 1 {
		what = fmt.Sprintf("one of %d contents that are possible here, the first of them", len(c.images))
	}
	end := min(at+8, len(got))
	return broken("byte %d of the device reads as %s, want %s: %s", off+int64(at), describe(got[at:end]), what, describe(want[at:end]))
}

// describe shows a few bytes to a person.
func describe(p []byte) string {
	if block.IsZero(p) {
		return "zeros"
	}
	return hex.EncodeToString(p)
}

// told puts nil and errors into words.
func told(err error) string {
	if err == nil {
		return "success"
	}
	return fmt.Sprintf("%q", err)
}

// isBroken reports whether err says that a device broke a promise.
func isBroken(err error) bool { return errors.Is(err, ErrBroken) }
