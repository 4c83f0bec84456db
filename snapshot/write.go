package snapshot

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// rewrite writes to chunks of the origin that are known to be its own, for which
// it must take no more than some nanoseconds. It reports whether they are.
func (s *Set) rewrite(ctx context.Context, p []byte, off int64, flags block.Flags) (known bool, err error) {
	if err := s.enter(ctx, &s.writes, flags); err != nil {
		return false, err
	}
	defer s.leave(&s.writes)
	if !s.unshared.Has(s.span(off, int64(len(p)))) {
		return false, nil
	}
	return true, s.writeKnown(ctx, p, off, flags)
}

// writeKnown is rewrite of chunks that are known to be the origin's own.
func (s *Set) writeKnown(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := writeDevice(ctx, s.origin, p, off, flags&block.NoWait)
	s.toOrigin.Dirty()
	if err == nil && flags&block.FUA != 0 {
		err = s.sync(ctx)
	}
	return err
}

func (s *Set) write(ctx context.Context, v ID, p []byte, off int64) error {
	for len(p) > 0 {
		c, end := s.span(off, int64(len(p)))
		n := min((c+s.within(c, end))<<s.shift-off, int64(len(p)))
		if err := s.writeExtent(ctx, v, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// writeExtent writes within one extent: first what can be written in place,
// together with other writers, then the rest alone.
func (s *Set) writeExtent(ctx context.Context, v ID, p []byte, off int64) error {
	c, end := s.span(off, int64(len(p)))
	held, err := s.lock(ctx, c, end, true)
	if err != nil {
		return err
	}
	n, err := s.writeShared(ctx, v, p, off)
	held.Unlock()
	if p, off = p[n:], off+n; err != nil || len(p) == 0 {
		return err
	}
	c, end = s.span(off, int64(len(p)))
	if held, err = s.lock(ctx, c, end, false); err != nil {
		return err
	}
	defer held.Unlock()
	return s.writeHeld(ctx, v, p, off)
}

// writeShared writes in place, as far as that is possible, and returns how far
// it has come. The chunks are held.
func (s *Set) writeShared(ctx context.Context, v ID, p []byte, off int64) (done int64, err error) {
	for done < int64(len(p)) {
		c, end := s.span(off+done, int64(len(p))-done)
		seg, err := s.locate(ctx, v, c, end-c, 0)
		if err != nil || !seg.Writable || !s.sealed(c) {
			return done, err
		}
		n := min((c+seg.N)<<s.shift-off, int64(len(p))) - done
		if err := s.writeInPlace(ctx, seg, p[done:done+n], off+done, 0); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// writeInPlace writes to places that the view may write as they are, on the
// strength of what is durable.
func (s *Set) writeInPlace(ctx context.Context, seg Segment, p []byte, off int64, flags block.Flags) error {
	if seg.Where == OnStore {
		err := writeDevice(ctx, s.dev, p, seg.Off+off&s.mask, flags)
		s.toStore.Dirty()
		return err
	}
	err := writeDevice(ctx, s.origin, p, off, flags)
	s.toOrigin.Dirty()
	s.unshared.Add(s.span(off, int64(len(p))))
	return err
}

// writeHeld writes chunks that the caller holds alone.
func (s *Set) writeHeld(ctx context.Context, v ID, p []byte, off int64) error {
	for len(p) > 0 {
		c, end := s.span(off, int64(len(p)))
		seg, err := s.ready(ctx, v, c, end-c)
		if err != nil {
			return err
		}
		n := min((c+seg.N)<<s.shift-off, int64(len(p)))
		if seg.Writable {
			err = s.writeInPlace(ctx, seg, p[:n], off, 0)
		} else {
			n, err = s.redirect(ctx, v, p[:n], off)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// ready makes the first of n chunks, which the caller holds alone, writable in
// place if they must be, and returns where they are. What is not Writable then
// goes to a place of its own.
func (s *Set) ready(ctx context.Context, v ID, c, n int64) (Segment, error) {
	if v == Origin {
		if err := s.adopt(ctx, c, n); err != nil {
			return Segment{}, err
		}
	}
	seg, err := s.locate(ctx, v, c, n, 0)
	if err != nil {
		return seg, err
	}
	here := v == Origin && seg.Where == OnOrigin
	switch {
	case seg.Writable && s.sealed(c):
		return seg, nil
	case here && (seg.Writable || !s.redirects()):
		if err := s.detach(ctx, c, seg.N); err != nil {
			return seg, err
		}
		seg.Writable = true
		return seg, s.overwrite(ctx, c, seg.N)
	}
	seg.Writable = false
	return seg, nil
}

// redirects reports whether the origin view may get places on the store.
func (s *Set) redirects() bool {
	return s.o.Policy != CopyOut && s.caps.Redirect && s.caps.Persistent && (s.o.Policy == Redirect || s.caps.Home)
}

// detach stages that no snapshot lies on the origin device in n chunks, which
// the caller holds alone.
func (s *Set) detach(ctx context.Context, c, n int64) error {
	for n > 0 {
		p, err := s.plan(ctx, Request{Op: Detach, View: Origin, Chunk: c, N: min(n, maxPlan)})
		if err != nil {
			return err
		}
		if len(p.Copies) > 0 {
			if err := s.carryOut(ctx, p, nil, 0); err != nil {
				return err
			}
		}
		if !p.More {
			c, n = c+p.N, n-p.N
		}
	}
	return nil
}

// overwrite makes durable that no snapshot lies on chunks of the origin device,
// and tells readers that they will be overwritten.
func (s *Set) overwrite(ctx context.Context, c, n int64) error {
	if err := s.toStore.WaitFor(ctx, s.needs(c)); err != nil {
		return err
	}
	if _, err := s.party.token(); err != nil {
		return err
	}
	// A run of chunks lies in one extent and has one shard.
	s.shard(c).overwrites.Add(1)
	return nil
}

// redirect gives the first chunks of a range a place of their own, writes what
// p has for them, and returns how many bytes of p that were. The caller holds
// the chunks alone.
func (s *Set) redirect(ctx context.Context, v ID, p []byte, off int64) (int64, error) {
	skip := off & s.mask
	n := int64(len(p)) >> s.shift
	partial := skip != 0 || n == 0
	if partial {
		n = 1
	}
	for {
		plan, err := s.plan(ctx, Request{Op: Write, View: v, Chunk: off >> s.shift, N: min(n, maxPlan)})
		if err != nil {
			return 0, err
		}
		if plan.More {
			if err := s.carryOut(ctx, plan, nil, 0); err != nil {
				return 0, err
			}
			continue
		}
		if !partial {
			size := plan.N << s.shift
			return size, s.carryOut(ctx, plan, p[:size], 0)
		}
		size := min(int64(len(p)), s.caps.Chunk-skip)
		buffer, free := s.buffer(1)
		defer free()
		if err := s.readPlace(ctx, plan.Old, plan.Chunk, 0, buffer, 0); err != nil {
			s.store.Abandon(plan)
			return 0, err
		}
		copy(buffer[skip:], p[:size])
		return size, s.carryOut(ctx, plan, buffer, 0)
	}
}
