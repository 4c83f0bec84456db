package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/strata-storage/strata/block"
)

// A view is the origin or a snapshot as a device.
type view struct {
	set    *Set
	id     ID
	info   block.Info
	gate   block.Gate
	closed func() error
}

func (v *view) Info() block.Info {
	info := v.info
	info.Contexts = v.set.contexts()
	return info
}

func (v *view) Close() error {
	if err := v.gate.Close(); err != nil {
		return err
	}
	return v.closed()
}

func (v *view) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	defer v.gate.Leave()
	if err := v.info.CheckRead(off, len(p)); err != nil || len(p) == 0 {
		return err
	}
	if err := v.set.enter(ctx, &v.set.reads, flags); err != nil {
		return err
	}
	defer v.set.leave(&v.set.reads)
	return v.known(v.set.read(ctx, v.id, p, off, flags))
}

// known makes an error that a snapshot does not exist, which did when it was
// opened, say that it is gone.
func (v *view) known(err error) error {
	if err != nil && v.id != Origin && errors.Is(err, ErrNoSnapshot) {
		return ErrGone
	}
	return err
}

func (v *view) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	defer v.gate.Leave()
	if err := v.info.CheckWrite(off, len(p)); err != nil || len(p) == 0 {
		return err
	}
	if flags&block.NoWait != 0 {
		return v.known(v.writeNow(ctx, p, off, flags))
	}
	if v.id == Origin {
		if known, err := v.set.rewrite(ctx, p, off, flags); known || err != nil {
			return err
		}
	}
	return v.change(ctx, flags, func() error { return v.set.write(ctx, v.id, p, off) })
}

func (v *view) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	defer v.gate.Leave()
	if err := v.info.CheckChange(off, n); err != nil {
		return err
	}
	if flags&block.FastZero != 0 {
		return block.ErrNotSupported
	}
	if n == 0 {
		return nil
	}
	return v.change(ctx, flags, func() error { return v.set.zero(ctx, v.id, off, n, flags) })
}

func (v *view) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	defer v.gate.Leave()
	if err := v.info.CheckChange(off, n); err != nil || n == 0 {
		return err
	}
	return v.change(ctx, flags, func() error { return v.set.trim(ctx, v.id, off, n) })
}

// maxTries bounds how often a request looks for space.
const maxTries = 100

// change does what changes a view, again if there was no space and some could
// be made, and makes it durable if it must be.
func (v *view) change(ctx context.Context, flags block.Flags, do func() error) error {
	s := v.set
	s.counts.changes.Add(1)
	for try := 0; ; try++ {
		if err := s.relieve(ctx); err != nil {
			return err
		}
		// The first try is spared the question, and the second what it missed.
		seen, free := s.toStore.Done(), int64(0)
		if try > 0 {
			free = s.store.Stats().Free
		}
		if err := s.enter(ctx, &s.writes, 0); err != nil {
			return err
		}
		err := s.mayWrite(v)
		if err == nil {
			err = v.known(do())
		}
		s.writes.leave()
		// Who takes a snapshot does not have to wait for that.
		if err == nil && flags&block.FUA != 0 {
			err = s.sync(ctx)
		}
		s.unshare()
		if !isFull(err) || try == maxTries || !s.makeRoom(ctx, try, seen, free) {
			return err
		}
	}
}

// mayWrite reports whether a view may be written now.
func (s *Set) mayWrite(v *view) error {
	if m := s.merging.Load(); m != nil && m.id == v.id {
		return fmt.Errorf("the origin is being set back to this snapshot: %w", ErrBusy)
	}
	return nil
}

func (v *view) Flush(ctx context.Context) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	defer v.gate.Leave()
	if v.set.o.ReadOnly {
		return nil
	}
	if err := v.set.enter(ctx, &v.set.reads, 0); err != nil {
		return err
	}
	defer v.set.leave(&v.set.reads)
	return v.set.sync(ctx)
}

func (v *view) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := v.gate.Enter(); err != nil {
		return block.FailExtents(err)
	}
	defer v.gate.Leave()
	if since, ok := strings.CutPrefix(mc, ChangedSince); ok {
		return v.changed(ctx, since, off, n)
	}
	if err := v.info.CheckExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(func(yield func(block.Extent, error) bool) {
		for end := off + n; off < end; {
			part, err := v.extents(ctx, off, end-off)
			if err != nil {
				yield(block.Extent{}, v.known(err))
				return
			}
			for _, e := range part {
				if !yield(e, nil) {
					return
				}
				off = e.End()
			}
		}
	})
}

// extents returns the first extents of a range, in a slice so that nothing is
// held while the caller looks at them.
func (v *view) extents(ctx context.Context, off, n int64) ([]block.Extent, error) {
	s := v.set
	if err := v.gate.Enter(); err != nil {
		return nil, err
	}
	defer v.gate.Leave()
	if err := s.enter(ctx, &s.reads, 0); err != nil {
		return nil, err
	}
	defer s.leave(&s.reads)
	c, end := s.span(off, n)
	for {
		before := s.shard(c).overwrites.Load()
		seg, err := s.locate(ctx, v.id, c, s.within(c, end), 0)
		if err != nil {
			return nil, err
		}
		n = min(n, (c+seg.N)<<s.shift-off)
		switch seg.Where {
		case OnStore:
			return []block.Extent{{Off: off, Len: n}}, nil
		case Hole:
			return []block.Extent{{Off: off, Len: n, Status: block.Hole | block.Zero}}, nil
		}
		var all []block.Extent
		for e, err := range s.origin.Extents(ctx, block.Allocation, off, n) {
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
		if v.id == Origin || s.shard(c).overwrites.Load() == before {
			return all, nil
		}
	}
}
