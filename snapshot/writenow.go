package snapshot

import (
	"context"
	"errors"

	"github.com/strata-storage/strata/block"
)

// writeNow is WriteAt with NoWait. It does what needs no lock that others hold,
// no copy, no barrier and no metadata that must be read: writes in place, and of
// whole chunks that get a place of their own. All else is block.ErrWouldBlock,
// and nothing has changed then but bytes of the range.
func (v *view) writeNow(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	s := v.set
	if flags&block.FUA != 0 {
		return block.ErrWouldBlock
	}
	if err := s.enter(ctx, &s.writes, flags); err != nil {
		return err
	}
	defer s.leave(&s.writes)
	c, end := s.span(off, int64(len(p)))
	if v.id == Origin && s.unshared.Has(c, end) {
		return s.writeKnown(ctx, p, off, flags)
	}
	if s.party.lazy != nil || s.merging.Load() != nil || s.within(c, end) < end-c {
		return block.ErrWouldBlock
	}
	err := s.writeChunksNow(ctx, v.id, p, off)
	if err == nil {
		s.counts.changes.Add(1)
	}
	return err
}

// writeChunksNow writes within one extent, all or nothing. Whole chunks are held
// alone, since they may have to get a place: one lookup is enough then.
func (s *Set) writeChunksNow(ctx context.Context, v ID, p []byte, off int64) error {
	c, end := s.span(off, int64(len(p)))
	whole := (off|int64(len(p)))&s.mask == 0
	held := s.tryLock(c, end, !whole)
	if held == nil {
		return block.ErrWouldBlock
	}
	defer held.Unlock()
	seg, err := s.locate(ctx, v, c, end-c, block.NoWait)
	switch {
	case err != nil:
		return err
	case seg.N < end-c, seg.Writable && !s.sealed(c), !seg.Writable && !whole:
		return block.ErrWouldBlock
	case seg.Writable:
		return s.writeInPlace(ctx, seg, p, off, block.NoWait)
	}
	return s.redirectNow(ctx, v, p, off)
}

// maxUnready bounds how many writes do not try to be redirected at once after
// one could not be: the store device has to allocate, for instance.
const maxUnready = 64

// redirectNow gives whole chunks, which the caller holds alone, a place of their
// own. The nodes of the map that a plan needs are in memory, as the caller has
// found out where the chunks are.
func (s *Set) redirectNow(ctx context.Context, v ID, p []byte, off int64) error {
	c, end := s.span(off, int64(len(p)))
	switch {
	case !s.dev.Info().NoWait, v == Origin && !s.redirects():
		return block.ErrWouldBlock
	case s.unready.Load() > 0:
		s.unready.Add(-1)
		return block.ErrWouldBlock
	}
	plan, err := s.plan(ctx, Request{Op: Write, View: v, Chunk: c, N: end - c})
	if err != nil {
		return block.ErrWouldBlock // who may wait can make room
	}
	if plan.More || len(plan.Copies) > 0 || plan.N < end-c {
		s.store.Abandon(plan)
		return block.ErrWouldBlock
	}
	err = s.carryOut(ctx, plan, p, block.NoWait)
	if errors.Is(err, block.ErrWouldBlock) {
		s.unready.Store(maxUnready)
	}
	return err
}
