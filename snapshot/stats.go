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
	// Task is what the last step was about, and Work how far that has come.
	Task Task
	Work Progress
	// Suspended: requests wait until Resume.
	Suspended bool
	// RollingBack names the snapshot that the origin is being set back to,
	// and Rollback says how far that has come, in chunks.
	RollingBack string
	Rollback    Progress
}

// A Task is a kind of background work.
type Task int

// The kinds of background work.
const (
	// Idle: none.
	Idle Task = iota
	// Freeing: what deleted snapshots used becomes free, in entries.
	Freeing
	// Merging: a rollback, in chunks.
	Merging
	// Homing: redirected data come home, in chunks.
	Homing
)

var tasks = [...]string{"idle", "freeing", "merging", "homing"}

// String returns the name of t.
func (t Task) String() string { return tasks[t] }

// Stats returns figures of the Set. It must have been resumed once.
func (s *Set) Stats() SetStats {
	st := SetStats{Store: s.store.Stats(), Copied: s.counts.chunks.Load(), Homed: s.counts.homed.Load(),
		Steps: s.counts.steps.Load(), Suspended: s.suspended.Load()}
	if w := s.worker.last.Load(); w != nil {
		st.Task, st.Work = w.task, w.Progress
	}
	if m := s.merging.Load(); m != nil {
		s.names.RLock()
		if r := s.names.byID[m.id]; r != nil {
			st.RollingBack = r.Name
		}
		s.names.RUnlock()
		st.Rollback = Progress{Done: m.position(), Total: s.chunks, More: true}
	}
	return st
}

// Check tells what is wrong with the store to report. Requests wait meanwhile.
func (s *Set) Check(ctx context.Context, report func(problem error)) error {
	s.control.Lock()
	defer s.control.Unlock()
	s.worker.stop()
	if !s.suspended.Load() {
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
