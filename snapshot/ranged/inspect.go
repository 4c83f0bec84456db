package ranged

import (
	"context"

	"github.com/strata-storage/strata/snapshot"
)

// slack is how many segments data leave free beyond the reserve, as that grows
// with the map. Data that are scattered over all segments would not come back.
func (st *store) slack() int { return 2 + int(st.geo.segments/32) }

// reserve is how many segments the log and the next checkpoint may need: it
// writes at most each node anew, and may cut each in two, and the bits of each
// segment.
func (st *store) reserve(growth int64) int {
	s, per := &st.space, st.geo.segment/blockSize
	changed := st.planned + growth + st.mem.chunks + st.mem.entries
	if st.frozen != nil {
		changed += st.frozen.chunks + st.frozen.entries
	}
	image := (st.valueBytes*2 + int64(len(st.live)+len(st.doomed))*20 + st.geo.segments*16 + int64(s.count[segNode]+1)*(per/8+8)) / payload
	blocks := 2*s.nodes + changed/25 + st.geo.segments + image + 16
	blocks -= int64(s.count[segNode])*per - s.nodes
	return max(st.maxLogs()-len(st.logs), 0) + int((max(blocks, 0)+per-1)/per)
}

func (st *store) Stats() snapshot.Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.state == nil {
		return snapshot.Stats{}
	}
	g, s := &st.geo, &st.space
	pending := (s.waiting + int64(len(s.freed))) * g.chunk
	data := s.all * g.chunk
	size := g.segments * g.segment
	reserve := min(st.reserve(0), s.count[segFree])
	meta := int64(s.count[segLog]+s.count[segNode]+reserve) * g.segment
	return snapshot.Stats{Size: size, Free: max(size-data-meta-pending, 0), Pending: pending, Data: data, Meta: meta,
		Exceptions: s.all, Commits: st.commits, Visits: st.visits}
}

func (st *store) Usage(ctx context.Context, ids []snapshot.ID) ([]snapshot.Usage, error) {
	st.mu.RLock()
	for _, id := range ids {
		if err := st.exists(id); err != nil {
			st.mu.RUnlock()
			return nil, err
		}
	}
	st.mu.RUnlock()
	all := make([]snapshot.Usage, len(ids))
	err := st.each(ctx, func(roll *roll, g group) {
		for i := range g.list {
			if e := &g.list[i]; e.where == snapshot.OnStore {
				roll.charge(all, ids, g, i, st.geo.chunk)
			}
		}
	})
	return all, err
}

// charge adds an entry to the usage of those who use it.
func (s *roll) charge(all []snapshot.Usage, ids []snapshot.ID, g group, entry int, chunk int64) {
	e := &g.list[entry]
	alone := s.alone(g.list, entry)
	for i, id := range ids {
		switch {
		case id == snapshot.Origin || id < e.from || id > e.to:
		case alone:
			all[i].Exclusive += g.n * chunk
		default:
			all[i].Shared += g.n * chunk
		}
	}
}

// each calls f with all groups of the map, as it is at one moment.
func (st *store) each(ctx context.Context, f func(*roll, group)) error {
	// No other checkpoint is made, so the nodes stay.
	st.making.Lock()
	defer st.making.Unlock()
	st.mu.RLock()
	t, roll, recent := st.state.trees, st.roll, newMemtable()
	recent.over(st.frozen)
	recent.over(st.mem)
	st.mu.RUnlock()
	return eachGroup(ctx, t.chunks, recent, func(g group) { f(&roll, g) })
}

// eachGroup calls f with the groups of a tree that has a memtable over it.
func eachGroup(ctx context.Context, t *tree, recent *memtable, f func(group)) error {
	for c, list := range recent.all() {
		if partial(list) {
			g, err := t.find(ctx, c, nil, 0)
			if err != nil {
				return err
			}
			list, _ = settled(list, g.list)
		}
		if len(list) > 0 {
			f(group{c, 1, list})
		}
	}
	end := t.cache.geo.chunks()
	for c := int64(0); c < end; {
		g, err := t.find(ctx, c, nil, 0)
		if err != nil {
			return err
		}
		g.n = min(g.n, end-c)
		for at := c; len(g.list) > 0 && at < c+g.n; {
			n := recent.clear(at, c+g.n-at)
			if n > 0 {
				f(group{at, n, moved(nil, g.list, at-c)})
			}
			at += n + 1
		}
		c += g.n
	}
	return nil
}
