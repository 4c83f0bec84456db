package snapshot

import (
	"context"

	"github.com/strata-storage/strata/internal/rangelock"
)

const lockShards = 64

// lock holds chunks, which lie within one extent, alone or shared. Chunks have
// the same lock in all views.
func (s *Set) lock(ctx context.Context, first, end int64, shared bool) (*rangelock.Range, error) {
	l := s.lockOf(first)
	if shared {
		return l.RLock(ctx, first, end-first)
	}
	return l.Lock(ctx, first, end-first)
}

// tryLock is lock, but returns nil instead of waiting.
func (s *Set) tryLock(first, end int64, shared bool) *rangelock.Range {
	l := s.lockOf(first)
	if shared {
		return l.TryRLock(first, end-first)
	}
	return l.TryLock(first, end-first)
}

// lockNext adds chunks that are held alone to a batch. Only the first may be
// waited for: later ones may be wanted by somebody who waits for the batch. It
// returns nil if they are.
func (s *Set) lockNext(ctx context.Context, batch []stretch, first, end int64) (*rangelock.Range, error) {
	if len(batch) == 0 {
		return s.lock(ctx, first, end, false)
	}
	return s.tryLock(first, end, false), nil
}

// lockOf returns the lock of the extent of a chunk.
func (s *Set) lockOf(c int64) *rangelock.Lock {
	return &s.locks[uint64(c)<<s.shift/extent%lockShards]
}

// within returns how many of the chunks from c to end lie in the extent of c.
func (s *Set) within(c, end int64) int64 {
	per := max(int64(extent)>>s.shift, 1)
	return min(end, (c/per+1)*per) - c
}
