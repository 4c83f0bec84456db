package transient

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/snapshot"
)

func (st *store) Stats() snapshot.Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	size := int64(len(st.space.refs))
	pending := int64(len(st.space.freed))
	used := size - st.space.free - pending
	return snapshot.Stats{
		Size: size * st.caps.Chunk, Free: st.space.free * st.caps.Chunk, Pending: pending * st.caps.Chunk,
		Data: used * st.caps.Chunk, Exceptions: used, Commits: st.commit, Visits: st.visits,
	}
}

func (st *store) Usage(_ context.Context, ids []snapshot.ID) ([]snapshot.Usage, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	for _, id := range ids {
		if err := st.exists(id); err != nil {
			return nil, err
		}
	}
	all := make([]snapshot.Usage, len(ids))
	for _, entries := range st.chunks {
		for _, e := range entries {
			if e.place.Where != snapshot.OnStore {
				continue
			}
			alone := st.users(e.from, e.to) == 1 && st.space.uses(st.slot(e.place.Off)) == 1
			for i, id := range ids {
				switch {
				case id < e.from || id > e.to:
				case alone:
					all[i].Exclusive += st.caps.Chunk
				default:
					all[i].Shared += st.caps.Chunk
				}
			}
		}
	}
	return all, nil
}

// Check looks at the map in memory.
func (st *store) Check(_ context.Context, report func(error)) error {
	st.mu.RLock()
	defer st.mu.RUnlock()
	used := map[int64]int32{}
	for c, all := range st.chunks {
		last := snapshot.ID(0)
		for _, e := range all {
			if e.from <= last || e.to < e.from || e.to >= st.next {
				report(fmt.Errorf("chunk %d: the entry for snapshots %d to %d follows %d", c, e.from, e.to, last))
			}
			last = e.to
			if e.place.Where == snapshot.OnStore {
				used[st.slot(e.place.Off)]++
			}
			if !st.dead && st.users(e.from, e.to) == 0 {
				report(fmt.Errorf("chunk %d: nobody uses the entry for snapshots %d to %d", c, e.from, e.to))
			}
		}
	}
	free := int64(0)
	for i, n := range st.space.refs {
		if n == 0 {
			free++
		}
		if n > 0 && used[int64(i)] != n || n <= 0 && used[int64(i)] > 0 {
			report(fmt.Errorf("place %d is counted %d times, used %d times", i, n, used[int64(i)]))
		}
	}
	if free != st.space.free {
		report(fmt.Errorf("%d places are free, %d are counted", free, st.space.free))
	}
	return nil
}
