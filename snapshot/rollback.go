package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A rollback sets the origin back to a snapshot. From its beginning on the
// origin reads as the snapshot where it has not been merged yet. The snapshot
// stays.
type rollback struct {
	id ID

	mu sync.RWMutex
	// Chunks before cursor are merged, and those of the runs behind it, which
	// are in order and apart.
	cursor int64
	done   []chunkRun
}

type chunkRun struct{ C, N int64 }

const (
	rollbackKey = "rollback"
	// maxDone bounds the runs, so that the record stays below MaxValue.
	maxDone = 300
)

// rollbackRecord is a rollback in the values of the store.
type rollbackRecord struct {
	ID     ID         `json:"id"`
	Cursor int64      `json:"cursor"`
	Done   []chunkRun `json:"done,omitempty"`
}

// Rollback sets the origin back to a snapshot, at once as far as those who
// read can tell. What is on the origin now is lost, unless it has a snapshot.
// The data move in the background.
func (s *Set) Rollback(ctx context.Context, name string) error {
	s.control.Lock()
	defer s.control.Unlock()
	return s.shared(ctx, func() error { return s.rollback(ctx, name) })
}

func (s *Set) rollback(ctx context.Context, name string) error {
	if err := s.mayChange(); err != nil {
		return err
	}
	r, err := s.names.get(name)
	if err != nil {
		return err
	}
	switch {
	case s.merging.Load() != nil:
		return fmt.Errorf("another rollback has not ended: %w", ErrBusy)
	case !s.caps.Home || !s.caps.Values:
		return fmt.Errorf("this kind of store cannot roll back: %w", block.ErrNotSupported)
	}
	m := &rollback{id: r.id}
	err = s.admitted(func() error {
		if err := s.putRollback(ctx, m); err != nil {
			return err
		}
		// No chunk may be merged before the rollback is durable.
		raise(&s.deleted, s.toStore.Dirty())
		s.unshared.Reset()
		s.merging.Store(m)
		return nil
	})
	if err != nil {
		return err
	}
	s.notify(Event{Kind: RollbackStarted, Name: name})
	s.worker.kick()
	return s.sync(ctx)
}

func (s *Set) putRollback(ctx context.Context, m *rollback) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, err := json.Marshal(rollbackRecord{m.id, m.cursor, m.done})
	if err != nil {
		return err
	}
	if err := s.store.Put(ctx, rollbackKey, v); err != nil {
		return err
	}
	s.toStore.Dirty()
	return nil
}

func (s *Set) loadRollback() error {
	s.merging.Store(nil)
	for k, v := range s.store.Values() {
		if k != rollbackKey {
			continue
		}
		var r rollbackRecord
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("the record of a rollback: %w: %w", err, ErrDamaged)
		}
		if s.names.byID[r.ID] == nil {
			return fmt.Errorf("a rollback to snapshot %d, which does not exist: %w", r.ID, ErrDamaged)
		}
		s.merging.Store(&rollback{id: r.ID, cursor: r.Cursor, done: r.Done})
	}
	return nil
}

// merged reports whether chunk c is merged, and how many of n chunks from there
// on are alike.
func (m *rollback) merged(c, n int64) (bool, int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if c < m.cursor {
		return true, min(n, m.cursor-c)
	}
	for _, r := range m.done {
		switch {
		case c < r.C:
			return false, min(n, r.C-c)
		case c < r.C+r.N:
			return true, min(n, r.C+r.N-c)
		}
	}
	return false, n
}

// finish notes that chunks are merged.
func (m *rollback) finish(c, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, _ := slices.BinarySearchFunc(m.done, c, func(r chunkRun, c int64) int { return int(min(max(r.C-c, -1), 1)) })
	m.done = slices.Insert(m.done, i, chunkRun{c, n})
	m.join()
}

// advance moves the cursor.
func (m *rollback) advance(c int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cursor = c
	m.join()
}

// join joins runs that touch, and drops those before the cursor.
func (m *rollback) join() {
	joined := m.done[:0]
	for _, r := range m.done {
		last := len(joined) - 1
		switch {
		case r.C+r.N <= m.cursor:
		case last >= 0 && joined[last].C+joined[last].N >= r.C:
			joined[last].N = max(joined[last].N, r.C+r.N-joined[last].C)
		default:
			joined = append(joined, r)
		}
	}
	m.done = joined
}

func (m *rollback) position() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cursor
}

func (m *rollback) crowded() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.done) >= maxDone
}

// locate is Map for the origin.
func (m *rollback) locate(ctx context.Context, s *Set, c, n int64, flags block.Flags) (Segment, error) {
	merged, n := m.merged(c, n)
	if merged {
		return s.store.Map(ctx, Origin, c, n, flags)
	}
	seg, err := s.store.Map(ctx, m.id, c, n, flags)
	seg.Writable = false
	return seg, err
}

// adopt merges chunks that are going to be changed on the origin. The caller
// holds them alone.
func (s *Set) adopt(ctx context.Context, c, n int64) error {
	m := s.merging.Load()
	if m == nil {
		return nil
	}
	for n > 0 {
		merged, k := m.merged(c, n)
		if !merged {
			if err := s.bringHome(ctx, m.id, []stretch{{c: c, n: k}}); err != nil {
				return err
			}
			m.finish(c, k)
			if err := s.putRollback(ctx, m); err != nil {
				return err
			}
		}
		c, n = c+k, n-k
	}
	return nil
}

// relieve merges until the record of the rollback has room for more runs.
func (s *Set) relieve(ctx context.Context) error {
	for m := s.merging.Load(); m != nil && m.crowded(); m = s.merging.Load() {
		if _, _, err := s.step(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

// rollbackStep merges a batch of chunks.
func (s *Set) rollbackStep(ctx context.Context, m *rollback) error {
	var batch []stretch
	defer func() {
		for _, x := range batch {
			x.held.Unlock()
		}
	}()
	c, left := m.position(), max(int64(homeBytes)>>s.shift, 1)
	for looks := 0; looks < homeLooks && len(batch) < homeRuns && left > 0 && c < s.chunks; looks++ {
		merged, n := m.merged(c, s.within(c, s.chunks))
		if merged {
			c += n
			continue
		}
		same, n, err := s.alike(ctx, m.id, Origin, c, n)
		if err != nil {
			return err
		}
		if same {
			c += n
			continue
		}
		n = min(n, left)
		held, err := s.lockNext(ctx, batch, c, c+n)
		if err != nil {
			return err
		}
		if held == nil {
			break
		}
		if done, _ := m.merged(c, n); done {
			// A write was faster. The rest is for the next look.
			held.Unlock()
			continue
		}
		_, n = m.merged(c, n)
		batch = append(batch, stretch{c, n, held})
		c, left = c+n, left-n
	}
	if err := s.bringHome(ctx, m.id, batch); err != nil {
		return err
	}
	m.advance(c)
	if c < s.chunks {
		return s.putRollback(ctx, m)
	}
	return s.endRollback(ctx, m)
}

func (s *Set) endRollback(ctx context.Context, m *rollback) error {
	if err := s.store.Put(ctx, rollbackKey, nil); err != nil {
		return err
	}
	s.toStore.Dirty()
	s.merging.Store(nil)
	s.names.RLock()
	name := s.names.byID[m.id].Name
	s.names.RUnlock()
	s.notify(Event{Kind: RollbackDone, Name: name})
	s.home.wake()
	return nil
}

// alike reports whether the first chunks of a range have the same places in
// two views, and how many of them.
func (s *Set) alike(ctx context.Context, a, b ID, c, n int64) (bool, int64, error) {
	x, err := s.store.Map(ctx, a, c, n, 0)
	if err != nil {
		return false, 0, err
	}
	y, err := s.store.Map(ctx, b, c, x.N, 0)
	if err != nil {
		return false, 0, err
	}
	return x.Place == y.Place, y.N, nil
}
