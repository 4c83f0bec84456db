package ranged

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

func (st *store) Stats() snapshot.Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.state == nil {
		return snapshot.Stats{}
	}
	g, s := &st.geo, &st.space
	pending := (s.waiting + int64(len(s.freed))) * g.chunk
	data := s.all*g.chunk - pending
	size := g.segments * g.segment
	reserve := min(st.reserve(0), s.count[segFree])
	meta := int64(s.count[segLog]+s.count[segNode]+reserve) * g.segment
	return snapshot.Stats{Size: size, Free: size - data - meta - pending, Pending: pending, Data: data, Meta: meta,
		Exceptions: s.all - pending/g.chunk, Commits: st.commits, Visits: st.visits}
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
			if e.where != snapshot.OnStore {
				continue
			}
			alone := st.alone(e)
			for i, id := range ids {
				switch {
				case id == snapshot.Origin || id < e.from || id > e.to:
				case alone:
					all[i].Exclusive += st.geo.chunk
				default:
					all[i].Shared += st.geo.chunk
				}
			}
		}
	}
	return all, nil
}

// Check reads the device as Load does, and verifies the map in memory. If
// nothing is staged both must be the same.
func (st *store) Check(ctx context.Context, report func(error)) error {
	st.turn.Lock()
	defer st.turn.Unlock()
	if st.state == nil {
		if _, err := st.readSuper(ctx); err != nil {
			report(err)
			return nil
		}
	}
	if err := st.checkSupers(ctx, report); err != nil {
		return err
	}
	r := &recovery{geo: &st.geo, dev: st.cfg.Device}
	if err := r.load(ctx); err != nil {
		report(err)
		return nil
	}
	if len(r.mend) > 0 {
		report(fmt.Errorf("one of the copies of checkpoint %d is not what was written: %w", r.gen, snapshot.ErrDamaged))
	}
	r.check(report)
	if st.state == nil {
		return nil
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	st.check(report)
	if len(st.staged.b) == 0 && st.pending == nil && (st.seq != r.seq || string(st.image()) != string(r.image())) {
		report(fmt.Errorf("commit %d in memory and commit %d on the device are not the same", st.seq, r.seq))
	}
	return nil
}

// checkSupers verifies both superblocks.
func (st *store) checkSupers(ctx context.Context, report func(error)) error {
	b := make([]byte, blockSize)
	for _, off := range []int64{0, st.geo.size - blockSize} {
		if err := st.cfg.Device.ReadAt(ctx, b, off, 0); err != nil {
			return err
		}
		if g, err := parseSuper(b, st.geo.size); err != nil || g != st.geo {
			report(fmt.Errorf("the superblock at %d is not what was written: %w", off, cmp.Or(err, snapshot.ErrDamaged)))
		}
	}
	return nil
}

// check verifies the invariants of a state.
func (s *state) check(report func(error)) {
	used := map[int64]int64{}
	entries := int64(0)
	for c, all := range s.chunks {
		last := snapshot.ID(0)
		entries += int64(len(all))
		for _, e := range all {
			if e.from <= last || e.to < e.from || e.to != head && e.to >= s.next || e.from > s.next {
				report(fmt.Errorf("chunk %d: the entry for snapshots %d to %d follows %d", c, e.from, e.to, last))
			}
			if last = e.to; e.where == snapshot.OnStore {
				used[e.slot]++
			}
			if !s.dead && s.users(e.from, e.to) == 0 {
				report(fmt.Errorf("chunk %d: nobody uses the entry for snapshots %d to %d", c, e.from, e.to))
			}
		}
	}
	if entries != s.entries {
		report(fmt.Errorf("there are %d entries, %d are counted", entries, s.entries))
	}
	for slot, n := range used {
		if !s.space.has(slot) || int64(s.space.more[slot]) != n-1 {
			report(fmt.Errorf("place %d is used %d times, counted %d times", slot, n, s.space.more[slot]+1))
		}
	}
	if n := int64(len(used)+len(s.space.freed)) + s.space.waiting; n != s.space.all {
		report(fmt.Errorf("%d places are in use, %d are taken", n, s.space.all))
	}
	if !slices.IsSorted(s.live) {
		report(fmt.Errorf("snapshots are out of order"))
	}
}
