package snapshot

import (
	"context"
	"sync/atomic"
)

// counts are figures of a Set.
type counts struct{ chunks, homed, steps, changes atomic.Int64 }

func (c *counts) copied(n int64) { c.chunks.Add(n) }

// SetStats are figures of a Set.
type SetStats struct {
	// Store has those of the store.
	Store Stats
	// Copied counts chunks that were copied to the store, once for each
	// destination; Homed those that came home. Since New.
	Copied, Homed int64
	// Steps of background work since New.
	Steps int64
	// Work that is pending.
	Work Progress
}

// Stats returns figures of the Set. It must have been resumed once.
func (s *Set) Stats() SetStats {
	return SetStats{Store: s.store.Stats(), Copied: s.counts.chunks.Load(), Homed: s.counts.homed.Load(),
		Steps: s.counts.steps.Load(), Work: s.progress()}
}

// Check tells what is wrong with the store to report. Requests wait meanwhile.
func (s *Set) Check(ctx context.Context, report func(problem error)) error {
	s.control.Lock()
	defer s.control.Unlock()
	s.worker.stop()
	if !s.suspended {
		defer s.worker.start(s)
	}
	if err := s.share(ctx); err != nil {
		return err
	}
	defer s.unshare()
	s.writes.hold()
	defer s.writes.release()
	if s.loaded && !s.o.ReadOnly {
		if err := s.sync(ctx); err != nil {
			return err
		}
	}
	return s.store.Check(ctx, report)
}
