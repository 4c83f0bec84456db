package snapshot

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// maxPlan bounds the chunks of a request to Plan.
const maxPlan = 1024

// storeFull is a write that found no space on the store.
type storeFull struct{ error }

func (e *storeFull) Unwrap() error { return e.error }

func isFull(err error) bool {
	var full *storeFull
	return errors.As(err, &full)
}

func (s *Set) plan(ctx context.Context, r Request) (*Plan, error) {
	p, err := s.store.Plan(ctx, r)
	if errors.Is(err, block.ErrNoSpace) {
		return nil, &storeFull{err}
	}
	return p, err
}

// carryOut does what a plan says, with the data for the places of Write, which
// are written with flags, and ends it.
func (s *Set) carryOut(ctx context.Context, p *Plan, data []byte, flags block.Flags) error {
	err := s.copyChunks(ctx, p)
	if err == nil && p.Op == Write && !p.More {
		p.Sums = s.sums(p.Sums[:0], data)
		err = writeDevice(ctx, s.dev, data, p.Target, flags)
	}
	if err == nil {
		err = s.store.Apply(ctx, p)
	}
	if err != nil {
		s.store.Abandon(p)
		return err
	}
	n := s.toStore.Dirty()
	// What others may rely on after this change is that a place is theirs
	// alone. The origin device has none but the origin that could write it,
	// which has just left.
	if p.Op == Detach || p.OldShared && (p.View != Origin || p.Old.Where == OnStore) {
		s.shard(p.Chunk).leave(n)
	}
	if p.Op == Write && p.Old.Where == OnStore && !p.OldShared && !p.More {
		s.moved(p.N)
	}
	if p.View == Origin && p.Op != Detach {
		s.home.wake()
	}
	s.checkSpace()
	return nil
}

// leave notes the number of a change by which views left places.
func (sh *shard) leave(n uint64) { raise(&sh.left, n) }

// raise makes a at least n.
func raise(a *atomic.Uint64, n uint64) {
	for {
		old := a.Load()
		if old >= n || a.CompareAndSwap(old, n) {
			return
		}
	}
}

// needs returns the number of the change that must be durable before chunks
// near c are written in place.
func (s *Set) needs(c int64) uint64 {
	return max(s.shard(c).left.Load(), s.deleted.Load())
}

// sealed reports whether the changes that chunk c depends on are durable.
func (s *Set) sealed(c int64) bool { return s.toStore.Sealed(s.needs(c)) }
