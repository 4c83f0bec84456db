package legacy

import (
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/snapshot"
)

func (st *store) Stats() snapshot.Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	s := st.stats
	s.Exceptions = int64(len(st.chunks))
	s.Size = st.total * st.caps.Chunk
	s.Free = st.space.spare() * st.caps.Chunk
	s.Pending = (st.count(st.dead) + st.count(st.limbo) + st.retiring) * st.caps.Chunk
	s.Data = s.Exceptions * st.caps.Chunk
	if s.Meta = st.caps.Chunk; st.live != 0 {
		s.Meta += (s.Exceptions/st.perArea + 1) * st.caps.Chunk
	}
	return s
}

func (st *store) Usage(_ context.Context, ids []snapshot.ID) ([]snapshot.Usage, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	all := make([]snapshot.Usage, len(ids))
	for i, id := range ids {
		if err := st.exists(id); err != nil {
			return nil, err
		}
		if id != snapshot.Origin {
			all[i].Exclusive = int64(len(st.chunks)) * st.caps.Chunk
		}
	}
	return all, nil
}

// Check reads header and list, and compares them with what is in memory.
func (st *store) Check(ctx context.Context, report func(error)) error {
	st.commit.Lock()
	defer st.commit.Unlock()
	l, valid, err := st.readHeader(ctx)
	var chunks map[int64]int64
	if err == nil && valid {
		chunks, _, _, err = l.readList(ctx, st.cfg.Device)
	}
	if errors.Is(err, snapshot.ErrNoStore) || errors.Is(err, snapshot.ErrMismatch) || errors.Is(err, snapshot.ErrDamaged) {
		report(err)
		return nil
	}
	if err != nil || !st.loaded {
		return err
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.live != 0 && st.live == st.disk.holds {
		st.compare(valid, chunks, report)
	}
	used := st.count(st.space.free) + st.count(st.mine) + st.count(st.dead) + st.count(st.limbo) + st.retiring
	if all := st.data(2, st.total); used != all {
		report(fmt.Errorf("%d chunks for data are free or in use, there are %d", used, all))
	}
	if n := st.count(st.space.free); n != st.space.left {
		report(fmt.Errorf("%d chunks are free, %d are counted", n, st.space.left))
	}
	if n := st.count(st.mine); n != int64(len(st.chunks)) {
		report(fmt.Errorf("%d chunks are in use by %d exceptions", n, len(st.chunks)))
	}
	return nil
}

// compare reports what is on the device and not in memory, or the other way
// round.
func (st *store) compare(valid bool, chunks map[int64]int64, report func(error)) {
	if !valid {
		report(fmt.Errorf("the header says that there is no snapshot: %w", snapshot.ErrDamaged))
		return
	}
	for old, new := range chunks {
		if at, ok := st.chunks[old]; !ok || at != new {
			report(fmt.Errorf("chunk %d lies at %d, expected %d: %w", old, new, at, snapshot.ErrDamaged))
		}
	}
	if durable := len(st.chunks) - len(st.staged); len(chunks) < durable {
		report(fmt.Errorf("there are %d exceptions, expected %d: %w", len(chunks), durable, snapshot.ErrDamaged))
	}
}
