package snapshot

import (
	"context"

	"github.com/strata-storage/strata/internal/rangelock"
)

const lockShards = 64

// lock holds chunks, which lie within one extent, alone or shared. Chunks have
// the same lock in all views.
func (s *Set) lock(ctx context.Context, first, end int64, shared bool) (*rangelock.Range, error) {
	l := &s.locks[uint64(first)<<s.shift/extent%lockShards]
	if shared {
		return l.RLock(ctx, first, end-first)
	}
	return l.Lock(ctx, first, end-first)
}

// tryLock is lock, but returns nil instead of waiting.
func (s *Set) tryLock(first, end int64, shared bool) *rangelock.Range {
	l := &s.locks[uint64(first)<<s.shift/extent%lockShards]
	if shared {
		return l.TryRLock(first, end-first)
	}
	return l.TryLock(first, end-first)
}

// within returns how many of the chunks from c to end lie in the extent of c.
func (s *Set) within(c, end int64) int64 {
	per := max(int64(extent)>>s.shift, 1)
	return min(end, (c/per+1)*per) - c
}
