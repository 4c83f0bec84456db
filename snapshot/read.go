package snapshot

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// optimism is how often a read of a snapshot is tried before it keeps writers
// away.
const optimism = 3

// locate is Map, but for an origin that is being rolled back.
func (s *Set) locate(ctx context.Context, v ID, c, n int64, flags block.Flags) (Segment, error) {
	if v == Origin {
		if m := s.merging.Load(); m != nil {
			return m.locate(ctx, s, c, n, flags)
		}
	}
	return s.store.Map(ctx, v, c, n, flags)
}

func (s *Set) read(ctx context.Context, v ID, p []byte, off int64, flags block.Flags) error {
	first, end := s.span(off, int64(len(p)))
	if v == Origin && s.unshared.Has(first, end) {
		return readDevice(ctx, s.origin, p, off, flags)
	}
	pin := s.pins.enter()
	defer s.pins.leave(pin)
	for try := 0; len(p) > 0; {
		c, end := s.span(off, int64(len(p)))
		shard := s.shard(c)
		before := shard.overwrites.Load()
		seg, err := s.locate(ctx, v, c, s.within(c, end), flags)
		if err != nil {
			return err
		}
		n := min((c+seg.N)<<s.shift-off, int64(len(p)))
		if err := s.readPlace(ctx, seg.Place, c, off&s.mask, p[:n], flags); err != nil {
			return err
		}
		if seg.Where == OnOrigin && v != Origin && shard.overwrites.Load() != before {
			// The snapshot may have left the origin device before it was
			// read.
			if try++; try < optimism {
				continue
			}
			if n, err = s.readLocked(ctx, v, p, off, flags); err != nil {
				return err
			}
		}
		p, off, try = p[n:], off+n, 0
	}
	return nil
}

// readLocked reads the first bytes of a range while nobody overwrites it, and
// returns how many it has read.
func (s *Set) readLocked(ctx context.Context, v ID, p []byte, off int64, flags block.Flags) (int64, error) {
	if flags&block.NoWait != 0 {
		return 0, block.ErrWouldBlock
	}
	c, end := s.span(off, int64(len(p)))
	end = c + s.within(c, end)
	held, err := s.lock(ctx, c, end, true)
	if err != nil {
		return 0, err
	}
	defer held.Unlock()
	seg, err := s.locate(ctx, v, c, end-c, flags)
	if err != nil {
		return 0, err
	}
	n := min((c+seg.N)<<s.shift-off, int64(len(p)))
	return n, s.readPlace(ctx, seg.Place, c, off&s.mask, p[:n], flags)
}
