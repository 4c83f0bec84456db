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
	if flags&block.FUA != 0 || s.party.lazy != nil || s.merging.Load() != nil {
		return block.ErrWouldBlock
	}
	if err := s.enter(ctx, &s.writes, flags); err != nil {
		return err
	}
	defer s.leave(&s.writes)
	c, end := s.span(off, int64(len(p)))
	if s.within(c, end) < end-c || s.merging.Load() != nil {
		return block.ErrWouldBlock
	}
	err := s.writeSharedNow(ctx, v.id, p, off)
	if errors.Is(err, errNotInPlace) {
		err = s.redirectNow(ctx, v.id, p, off)
	}
	if err == nil {
		s.counts.changes.Add(1)
	}
	return err
}

// errNotInPlace says that chunks must get a place of their own first.
var errNotInPlace = errors.New("not in place")

// writeSharedNow writes in place, all or nothing.
func (s *Set) writeSharedNow(ctx context.Context, v ID, p []byte, off int64) error {
	c, end := s.span(off, int64(len(p)))
	held := s.tryLock(c, end, true)
	if held == nil {
		return block.ErrWouldBlock
	}
	defer held.Unlock()
	seg, err := s.locate(ctx, v, c, end-c, block.NoWait)
	switch {
	case err != nil:
		return err
	case !seg.Writable:
		return errNotInPlace
	case seg.N < end-c || !s.sealed(c):
		return block.ErrWouldBlock
	}
	return s.writeInPlace(ctx, seg, p, off, block.NoWait)
}

// maxUnready bounds how many writes do not try to be redirected at once after
// one could not be: the store device has to allocate, for instance.
const maxUnready = 64

// redirectNow gives whole chunks a place of their own.
func (s *Set) redirectNow(ctx context.Context, v ID, p []byte, off int64) error {
	c, end := s.span(off, int64(len(p)))
	switch {
	case (off|int64(len(p)))&s.mask != 0, !s.dev.Info().NoWait, v == Origin && !s.redirects():
		return block.ErrWouldBlock
	case s.unready.Load() > 0:
		s.unready.Add(-1)
		return block.ErrWouldBlock
	}
	held := s.tryLock(c, end, false)
	if held == nil {
		return block.ErrWouldBlock
	}
	defer held.Unlock()
	// The nodes of the map that a plan needs are in memory if those are that
	// tell where the chunks are.
	seg, err := s.locate(ctx, v, c, end-c, block.NoWait)
	if err != nil {
		return err
	}
	if seg.Writable || seg.N < end-c {
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
