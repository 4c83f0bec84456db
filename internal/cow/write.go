package cow

import (
	"context"

	"github.com/strata-storage/strata/block"
)

func (d *device) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckWrite(off, len(p)); err != nil || len(p) == 0 {
		return err
	}
	return d.write(ctx, p, off, flags)
}

// write is WriteAt of something, inside the gate.
func (d *device) write(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	first, end := d.span(off, int64(len(p)))
	if s, n := d.store.states.run(first, end); s == data && n == end-first {
		return d.rewrite(ctx, p, off, flags)
	}
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	if err := d.writeFirst(ctx, p, off); err != nil {
		return err
	}
	if err := d.store.note(ctx, first, end); err != nil {
		return err
	}
	return d.syncIf(ctx, flags)
}

// syncIf ends a request that changed the file or the map.
func (d *device) syncIf(ctx context.Context, flags block.Flags) error {
	if flags&block.FUA != 0 {
		return d.store.sync(ctx)
	}
	return nil
}

// rewrite writes to chunks in state data.
func (d *device) rewrite(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if flags&block.NoWait != 0 && d.diffWaits {
		return block.ErrWouldBlock
	}
	at := d.store.layout.data + off
	if flags&block.FUA == 0 || d.store.states.durable(d.span(off, int64(len(p)))) {
		return d.diff.WriteAt(ctx, p, at, flags)
	}
	// The bytes are of no use without the map, which only a sync brings out.
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	if err := d.diff.WriteAt(ctx, p, at, 0); err != nil {
		return err
	}
	return d.store.sync(ctx)
}

// writeFirst writes to chunks of which some are not in state data.
func (d *device) writeFirst(ctx context.Context, p []byte, off int64) error {
	n := int64(len(p))
	first, end := d.span(off, n)
	start, stop := first<<d.shift, min(end<<d.shift, d.info.Size)
	lock := d.first.RLock
	if start != off || stop != off+n {
		lock = d.first.Lock
	}
	held, err := lock(ctx, start, stop-start)
	if err != nil {
		return err
	}
	defer held.Unlock()
	if err := d.writeHeld(ctx, p, off); err != nil {
		return err
	}
	d.store.states.set(first, end, d.store.arrived())
	return nil
}

// writeHeld brings p to the file together with the rest of the chunks that it
// fills in part: the first one, the last one, or the only one.
func (d *device) writeHeld(ctx context.Context, p []byte, off int64) error {
	if skip := off & d.mask; skip != 0 {
		k := min(d.mask+1-skip, int64(len(p)))
		if err := d.fillChunk(ctx, p[:k], off); err != nil {
			return err
		}
		p, off = p[k:], off+k
	}
	if k := int64(len(p)) & d.mask; k != 0 && off+int64(len(p)) < d.info.Size {
		whole := int64(len(p)) - k
		if err := d.fillChunk(ctx, p[whole:], off+whole); err != nil {
			return err
		}
		p = p[:whole]
	}
	if len(p) == 0 {
		return nil
	}
	return d.diff.WriteAt(ctx, p, d.store.layout.data+off, 0)
}

// fillChunk brings p to the file, a part of a chunk that the caller holds
// alone, and with it the rest of the chunk if it is not in the file. The whole
// chunk goes out in one write: what the file had there may be anything.
func (d *device) fillChunk(ctx context.Context, p []byte, off int64) error {
	at := d.store.layout.data
	s := d.store.states.at(off >> d.shift)
	if s.inFile() {
		return d.diff.WriteAt(ctx, p, at+off, 0)
	}
	start := off &^ d.mask
	buffer := d.chunks.Get().(*[]byte)
	defer d.chunks.Put(buffer)
	q := (*buffer)[:min(d.mask+1, d.info.Size-start)]
	if err := d.readRun(ctx, s, q, start, 0); err != nil {
		return err
	}
	copy(q[off-start:], p)
	return d.diff.WriteAt(ctx, q, at+start, 0)
}
