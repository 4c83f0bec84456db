package legacy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// disk is what is known of the metadata on the device.
type disk struct {
	// valid: the header may say that there is a snapshot. holds is which one
	// the list is about, if both are durable.
	valid bool
	holds snapshot.ID
	// area is the last one of the list and last its exceptions, which are
	// durable and fewer than there is room for. litter: behind the list there
	// is something of a commit that was cut off.
	area   int64
	last   []entry
	litter bool
	// unsure: a commit has failed. fenced: somebody else has written. shared:
	// there is a lock, without which nothing may be written.
	unsure, fenced, shared bool
}

// turn goes on to the next area if one is full.
func (d *disk) turn(l layout) {
	if int64(len(d.last)) == l.perArea {
		d.area, d.last, d.litter = d.area+1, nil, false
	}
}

// Commit needs two barriers when there are new exceptions, as nothing in the
// format tells whether their data have arrived. The token has no place in it:
// what tells that another holder of the lock was here is that the list has
// changed.
func (st *store) Commit(ctx context.Context, token uint64) error {
	st.commit.Lock()
	defer st.commit.Unlock()
	if token != 0 {
		st.disk.shared = true
		if err := st.fence(ctx); err != nil {
			return err
		}
	}
	st.mu.Lock()
	live, staged, limbo, epoch := st.live, st.staged, st.limbo, st.epoch
	st.limbo = nil
	st.mu.Unlock()

	st.disk.unsure = true
	err := st.write(ctx, live, staged)
	st.mu.Lock()
	if err != nil {
		st.limbo = append(limbo, st.limbo...)
		st.mu.Unlock()
		return err
	}
	st.disk.unsure = false
	st.stats.Commits++
	if st.live == live {
		st.staged = slices.Clone(st.staged[len(staged):])
	}
	st.retiring += st.count(limbo)
	st.mu.Unlock()
	if len(limbo) > 0 {
		st.cfg.Retire(func() { st.retire(limbo, epoch) })
	}
	return nil
}

// retire makes places free that no reader uses any more.
func (st *store) retire(all spans, epoch int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.epoch != epoch {
		return
	}
	st.retiring -= st.count(all)
	for _, x := range all {
		st.space.release(x)
	}
}

// write makes the list on the device that of a snapshot, to which some
// exceptions were added.
func (st *store) write(ctx context.Context, live snapshot.ID, staged []entry) error {
	d, dev := &st.disk, st.cfg.Device
	switch {
	case live == 0 && !d.valid:
		return dev.Flush(ctx)
	case live != 0 && live == d.holds:
		return st.extend(ctx, staged)
	}
	d.holds = 0
	if d.valid {
		if err := st.writeHeader(ctx, false); err != nil {
			return err
		}
		d.valid = false
	}
	if live == 0 {
		return nil
	}
	area, last, err := st.fill(ctx, 0, staged)
	if err == nil {
		err = dev.Flush(ctx)
	}
	if err != nil {
		return err
	}
	d.valid = true
	if err := st.writeHeader(ctx, true); err != nil {
		return err
	}
	d.holds, d.area, d.last, d.litter = live, area, last, false
	return nil
}

// writeHeader declares the store valid or not, durably.
func (st *store) writeHeader(ctx context.Context, valid bool) error {
	if err := writeAll(ctx, st.cfg.Device, st.header(valid), 0); err != nil {
		return err
	}
	return st.cfg.Device.Flush(ctx)
}

// extend adds exceptions to the list. What comes first in it is written last,
// so that it is always a list of exceptions whose data are durable.
func (st *store) extend(ctx context.Context, staged []entry) error {
	d, dev := &st.disk, st.cfg.Device
	if d.litter && !st.cfg.ReadOnly {
		if err := st.writeArea(ctx, d.area, d.last, 0); err != nil {
			return err
		}
	}
	if len(staged) == 0 {
		err := dev.Flush(ctx)
		d.litter = d.litter && (err != nil || st.cfg.ReadOnly)
		return err
	}
	n := min(len(staged), int(st.perArea)-len(d.last))
	all := slices.Concat(d.last, staged[:n])
	area, last := d.area, all
	if int64(len(all)) == st.perArea {
		var err error
		if area, last, err = st.fill(ctx, area+1, staged[n:]); err != nil {
			return err
		}
	}
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	d.litter = false
	if err := st.writeArea(ctx, d.area, all, len(d.last)); err != nil {
		return err
	}
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	d.area, d.last = area, last
	return nil
}

// fill writes areas from one on, the last of which is not full. It returns that.
func (st *store) fill(ctx context.Context, area int64, all []entry) (int64, []entry, error) {
	for ; area < st.areas(); area++ {
		n := min(len(all), int(st.perArea))
		if err := st.writeArea(ctx, area, all[:n], 0); err != nil {
			return 0, nil, err
		}
		if n < int(st.perArea) {
			return area, slices.Clone(all), nil
		}
		all = all[n:]
	}
	return 0, nil, fmt.Errorf("there is no room for area %d: %w", area, block.ErrNoSpace)
}

// writeArea writes the exceptions of an area: all of the metadata chunk, or if
// those before from are there the blocks that the others are in.
func (st *store) writeArea(ctx context.Context, area int64, all []entry, from int) error {
	p := make([]byte, st.chunk)
	for i, e := range all {
		put(p, int64(i), e)
	}
	begin, end := int64(0), st.chunk
	if from > 0 {
		begin, end = st.block(int64(from)), st.block(int64(len(all))-1)+st.unit()
	}
	return writeAll(ctx, st.cfg.Device, p[begin:end], st.meta(area)<<st.shift+begin)
}

// unit is what is written as a whole.
func (st *store) unit() int64 { return max(sector, int64(st.cfg.Device.Info().MinBlock)) }

// block returns the offset of the block with an entry of a metadata chunk.
func (st *store) block(i int64) int64 { return i * entrySize / st.unit() * st.unit() }

// fence fails if the list is not the one that was written last.
func (st *store) fence(ctx context.Context) error {
	d := &st.disk
	if d.unsure {
		return nil
	}
	if !d.fenced {
		same, err := st.untouched(ctx)
		if err != nil {
			return err
		}
		d.fenced = !same
	}
	if d.fenced {
		return fmt.Errorf("the list of exceptions was changed by another: %w", snapshot.ErrFenced)
	}
	return nil
}

// untouched reports whether header and end of the list are as they were.
func (st *store) untouched(ctx context.Context) (bool, error) {
	d := &st.disk
	_, valid, err := st.readHeader(ctx)
	switch {
	case errors.Is(err, snapshot.ErrNoStore) || errors.Is(err, snapshot.ErrMismatch) || errors.Is(err, snapshot.ErrDamaged):
		return false, nil
	case err != nil || valid != d.valid:
		return false, err
	case !valid || d.area >= st.areas():
		return true, nil
	}
	begin := st.block(int64(len(d.last)))
	p := make([]byte, st.unit())
	if err := readAll(ctx, st.cfg.Device, p, st.meta(d.area)<<st.shift+begin); err != nil {
		return false, err
	}
	at := int64(len(d.last))*entrySize - begin
	want := make([]byte, begin+at)
	for i, e := range d.last {
		put(want, int64(i), e)
	}
	end := binary.LittleEndian.Uint64(p[at+8:])
	return end == 0 && slices.Equal(p[:at], want[begin:]), nil
}

// Refresh is refresh. There is one snapshot at most, which may be another one.
func (st *store) Refresh(ctx context.Context) (listed bool, err error) {
	return true, st.refresh(ctx)
}

// refresh reads the end of the list, from where it was (R9). Another list is
// another snapshot.
func (st *store) refresh(ctx context.Context) error {
	st.commit.Lock()
	defer st.commit.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	l, valid, err := st.readHeader(ctx)
	switch {
	case err != nil:
		return err
	case l != st.layout:
		return fmt.Errorf("the chunks have %d bytes, they had %d: %w", l.chunk, st.chunk, snapshot.ErrMismatch)
	case !valid && st.live == 0:
		st.disk.valid = false
		return nil
	case !valid || st.live == 0 || st.live != st.disk.holds:
		return st.load(ctx)
	}
	d := st.disk
	var added []entry
	changed := errors.New("changed")
	err = l.readAreas(ctx, st.cfg.Device, d.area, func(area int64, all []entry, litter bool) error {
		if area == st.disk.area {
			if len(all) < len(d.last) || !slices.Equal(all[:len(d.last)], d.last) {
				return changed
			}
			added = append(added, all[len(d.last):]...)
		} else {
			added = append(added, all...)
		}
		d.area, d.last, d.litter = area, all, litter
		return nil
	})
	if errors.Is(err, changed) {
		return st.load(ctx)
	}
	if err != nil {
		return err
	}
	d.turn(l)
	for _, e := range added {
		if _, twice := st.chunks[e.old]; twice || !st.space.take(e.new) {
			return st.load(ctx)
		}
		st.chunks[e.old] = e.new
		st.mine.add(span{e.new, e.new + 1})
	}
	st.disk = d
	return nil
}
