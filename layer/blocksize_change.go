package layer

import (
	"context"
	"iter"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/rangelock"
)

func (b *blockSize) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	n := int64(len(p))
	if err := b.info.CheckWrite(off, len(p)); err != nil {
		return b.refuse(err)
	}
	if !b.smaller && n <= b.most || n == 0 {
		return b.dev.WriteAt(ctx, p, b.down(off), flags)
	}
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	r, err := b.lock(ctx, off, n, flags)
	if err != nil {
		return err
	}
	if r != nil {
		defer r.Unlock()
	}
	if b.aligned(off, n) {
		return b.pieces(ctx, OpWrite, p, off, flags)
	}
	return b.edges(off, n, func(off, n int64) error {
		part := p[:n]
		p = p[n:]
		return b.writePart(ctx, part, off, n, flags)
	}, func(off, n int64) error {
		whole := p[:n]
		p = p[n:]
		return b.pieces(ctx, OpWrite, whole, off, flags)
	})
}

// lock keeps the blocks of a change apart from others that would write them
// back as they were before. It returns nil if that cannot happen.
func (b *blockSize) lock(ctx context.Context, off, n int64, flags block.Flags) (*rangelock.Range, error) {
	if !b.smaller {
		return nil, nil
	}
	start := b.down(off)
	size := b.up(off+n) - start
	if flags&block.NoWait == 0 || !b.info.NoWait {
		if b.aligned(off, n) {
			return b.blocks.RLock(ctx, start, size)
		}
		return b.blocks.Lock(ctx, start, size)
	}
	try := b.blocks.TryLock
	if b.aligned(off, n) {
		try = b.blocks.TryRLock
	}
	if r := try(start, size); r != nil {
		return r, nil
	}
	return nil, block.ErrWouldBlock
}

// edges calls whole for the blocks that a request fills and some for the
// bytes of those at its edges that it does not, in the order of the offsets.
// Two neighbouring blocks that are both filled in part are one call.
func (b *blockSize) edges(off, n int64, some, whole func(off, n int64) error) error {
	end := off + n
	first, last := b.up(off), b.down(end)
	if first >= last {
		return some(off, n)
	}
	if off < first {
		if err := some(off, first-off); err != nil {
			return err
		}
	}
	if err := whole(first, last-first); err != nil {
		return err
	}
	if last < end {
		return some(last, end-last)
	}
	return nil
}

// writePart writes the n bytes at off, of one or two blocks that it reads and
// writes back: p, or zeros if p is nil. The caller holds the blocks.
func (b *blockSize) writePart(ctx context.Context, p []byte, off, n int64, flags block.Flags) error {
	buf := b.buffers.Get().(*[]byte)
	defer b.buffers.Put(buf)
	start := b.down(off)
	q := (*buf)[:b.up(off+n)-start]
	if err := b.pieces(ctx, OpRead, q, start, flags&block.NoWait); err != nil {
		return err
	}
	if p == nil {
		clear(q[off-start:][:n])
	} else {
		copy(q[off-start:], p)
	}
	return b.pieces(ctx, OpWrite, q, start, flags&(block.FUA|block.NoWait))
}

// Zero lets the device zero the blocks that the range fills and writes zeros
// into those that it does not.
func (b *blockSize) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := b.info.CheckChange(off, n); err != nil {
		return b.refuse(err)
	}
	if !b.smaller || n == 0 {
		return b.dev.Zero(ctx, b.down(off), n, flags)
	}
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	flags &^= block.NoWait
	r, err := b.lock(ctx, off, n, flags)
	if err != nil {
		return err
	}
	defer r.Unlock()
	first, last := b.up(off), b.down(off+n)
	some := func(off, n int64) error { return b.writePart(ctx, nil, off, n, flags) }
	if flags&block.FastZero != 0 {
		// The blocks in the middle go first: they may refuse.
		if first >= last {
			return block.ErrNotSupported
		}
		if err := b.dev.Zero(ctx, first, last-first, flags); err != nil {
			return err
		}
		return b.edges(off, n, some, func(off, n int64) error { return nil })
	}
	return b.edges(off, n, some, func(off, n int64) error { return b.dev.Zero(ctx, off, n, flags) })
}

// Trim trims the blocks that the range fills.
func (b *blockSize) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := b.info.CheckChange(off, n); err != nil {
		return b.refuse(err)
	}
	if !b.smaller {
		return b.dev.Trim(ctx, off, n, flags)
	}
	first, last := b.up(off), b.down(off+n)
	if first >= last {
		return b.dev.Trim(ctx, b.down(off), 0, flags)
	}
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	r, err := b.blocks.RLock(ctx, first, last-first)
	if err != nil {
		return err
	}
	defer r.Unlock()
	return b.dev.Trim(ctx, first, last-first, flags)
}

func (b *blockSize) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := b.info.CheckRange(off, n); err != nil {
		return block.FailExtents(b.refuse(err))
	}
	start, end := b.down(off), b.up(off+n)
	if n == 0 {
		end = start
	}
	return func(yield func(block.Extent, error) bool) {
		for e, err := range b.dev.Extents(ctx, mc, start, end-start) {
			if err == nil {
				from, to := max(e.Off, off), min(e.End(), off+n)
				if from >= to {
					continue
				}
				e.Off, e.Len = from, to-from
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
