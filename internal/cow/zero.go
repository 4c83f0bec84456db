package cow

import (
	"context"
	"errors"

	"github.com/strata-storage/strata/block"
)

func (d *device) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckChange(off, n); err != nil || n == 0 {
		return err
	}
	from, to := d.whole(off, off+n)
	// First what may be refused.
	if err := d.zeroWhole(ctx, from, to, flags); err != nil {
		return err
	}
	if err := d.zeroParts(ctx, off, from); err != nil {
		return err
	}
	if err := d.zeroParts(ctx, to, off+n); err != nil {
		return err
	}
	// Also when nothing changed: another request may have made the change
	// and not have noted it yet.
	first, end := d.span(off, n)
	if err := d.store.note(ctx, first, end); err != nil {
		return err
	}
	return d.syncIf(ctx, flags)
}

// Trim makes whole chunks zeros and leaves the rest alone. It may be forgotten,
// so that it writes no notes.
func (d *device) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckChange(off, n); err != nil || n == 0 {
		return err
	}
	from, to := d.whole(off, off+n)
	if err := d.zeroWhole(ctx, from, to, 0); err != nil {
		return err
	}
	return d.syncIf(ctx, flags)
}

// whole returns the part of a range that consists of whole chunks. The last
// chunk may be shorter than the others.
func (d *device) whole(from, to int64) (int64, int64) {
	first, last := roundUp(from, d.mask+1), to&^d.mask
	if to == d.info.Size {
		last = to
	}
	if first >= last {
		return to, to
	}
	return first, last
}

// zeroWhole zeroes whole chunks. Unless storage is wanted for them they are
// taken out of the file: that costs the same however many they are.
func (d *device) zeroWhole(ctx context.Context, from, to int64, flags block.Flags) error {
	if from == to {
		return nil
	}
	held, err := d.first.RLock(ctx, from, to-from)
	if err != nil {
		return err
	}
	defer held.Unlock()
	first, end := d.span(from, to-from)
	at := d.store.layout.data + from
	if flags&block.NoHole != 0 {
		err := d.diff.Zero(ctx, at, to-from, flags&(block.NoHole|block.FastZero))
		if err == nil {
			d.store.states.set(first, end, d.store.arrived())
		}
		return err
	}
	if !d.store.states.set(first, end, zero) {
		return nil
	}
	// If the power goes now the map may say data again, and the chunks hold
	// what they held or zeros. That is why they are not trimmed, which would
	// let them hesitate between the two.
	err = d.diff.Zero(ctx, at, to-from, block.FastZero)
	if errors.Is(err, block.ErrNotSupported) {
		return nil
	}
	return err
}

// zeroParts zeroes a range that holds no whole chunk, or less than two.
func (d *device) zeroParts(ctx context.Context, from, to int64) error {
	for from < to {
		n := min(d.mask+1-from&d.mask, to-from)
		if d.store.states.at(from>>d.shift) != zero {
			if err := d.write(ctx, zeros[:n], from, 0); err != nil {
				return err
			}
		}
		from += n
	}
	return nil
}
