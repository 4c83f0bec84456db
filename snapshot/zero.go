package snapshot

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// zero zeroes chunks as a whole, and writes zeros to the parts of others.
func (s *Set) zero(ctx context.Context, v ID, off, n int64, flags block.Flags) error {
	end := off + n
	first, stop := s.inner(off, end)
	if first >= stop {
		return s.writeZeros(ctx, v, off, n)
	}
	if err := s.writeZeros(ctx, v, off, first<<s.shift-off); err != nil {
		return err
	}
	change := func(ctx context.Context, c, n int64) (int64, error) { return s.clearHeld(ctx, v, c, n, flags, false) }
	if err := s.eachHeld(ctx, first, stop, change); err != nil {
		return err
	}
	return s.writeZeros(ctx, v, stop<<s.shift, end-stop<<s.shift)
}

// trim clears whole chunks.
func (s *Set) trim(ctx context.Context, v ID, off, n int64) error {
	first, stop := s.inner(off, off+n)
	return s.eachHeld(ctx, first, stop, func(ctx context.Context, c, n int64) (int64, error) {
		return s.clearHeld(ctx, v, c, n, 0, true)
	})
}

// inner returns the chunks that lie inside a range as a whole.
func (s *Set) inner(off, end int64) (first, stop int64) {
	stop = end >> s.shift
	if end == s.size {
		stop = s.chunks
	}
	return (off + s.mask) >> s.shift, stop
}

// eachHeld calls f with ranges of chunks that are held alone, until it has
// changed all of them. f returns how many it changed.
func (s *Set) eachHeld(ctx context.Context, first, stop int64, f func(ctx context.Context, c, n int64) (int64, error)) error {
	for first < stop {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		end := first + s.within(first, stop)
		held, err := s.lock(ctx, first, end, false)
		if err != nil {
			return err
		}
		for first < end && err == nil {
			var n int64
			n, err = f(ctx, first, end-first)
			first += n
		}
		held.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// clearHeld zeroes or trims the first of n chunks that are held alone, and
// returns how many.
func (s *Set) clearHeld(ctx context.Context, v ID, c, n int64, flags block.Flags, trim bool) (int64, error) {
	if v == Origin {
		if err := s.adopt(ctx, c, n); err != nil {
			return 0, err
		}
	}
	seg, err := s.locate(ctx, v, c, n, 0)
	n = seg.N
	switch {
	case err != nil:
		return 0, err
	case flags&block.NoHole != 0:
		return n, s.zeroHeld(ctx, v, c, n)
	case seg.Where == Hole:
		return n, nil
	case v == Origin && seg.Where == OnOrigin && (seg.Writable || !s.redirects()):
		if !seg.Writable && trim {
			return n, nil // the snapshots need it
		}
		return s.clearOrigin(ctx, c, n, flags, trim)
	}
	p, err := s.plan(ctx, Request{Op: Clear, View: v, Chunk: c, N: min(n, maxPlan)})
	if err != nil {
		return 0, err
	}
	if err := s.carryOut(ctx, p, nil, 0); err != nil || p.More {
		return 0, err
	}
	return p.N, nil
}

// clearOrigin zeroes or trims chunks of the origin device.
func (s *Set) clearOrigin(ctx context.Context, c, n int64, flags block.Flags, trim bool) (int64, error) {
	seg, err := s.ready(ctx, Origin, c, n)
	if err != nil {
		return 0, err
	}
	n = seg.N
	off := c << s.shift
	size := min(n<<s.shift, s.size-off)
	if trim {
		err = s.origin.Trim(ctx, off, size, 0)
	} else {
		err = s.origin.Zero(ctx, off, size, flags&block.NoHole)
	}
	s.toOrigin.Dirty()
	return n, err
}

// zeroHeld writes zeros to chunks that are held alone.
func (s *Set) zeroHeld(ctx context.Context, v ID, c, n int64) error {
	off := c << s.shift
	size := min(n<<s.shift, s.size-off)
	return s.writeHeld(ctx, v, make([]byte, size), off)
}

// writeZeros writes zeros to less than two chunks.
func (s *Set) writeZeros(ctx context.Context, v ID, off, n int64) error {
	if n <= 0 {
		return nil
	}
	return s.write(ctx, v, make([]byte, n), off)
}
