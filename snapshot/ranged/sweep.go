package ranged

import (
	"context"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// A sweep looks for entries without users in a memtable, which has no order of
// eras. It takes many chunks at a time, without reading or copying any.
type sweep struct {
	// done is the last deletion that a sweep has come to the end for, of the
	// one that it is being made for, at the next chunk.
	done, of uint64
	at       int64
	// m is the memtable that dead belongs to: what is known of its ranges of
	// snapshots.
	m    *memtable
	dead []fate
}

// fate is whether somebody uses the entries for a range of snapshots.
type fate byte

const (
	unknown fate = iota
	alive
	dead
)

// find returns what of up to budget chunks nobody uses, and the chunk to go on
// with, or -1.
func (w *sweep) find(m *memtable, s *roll, budget int) (falls []fall, next, looked int64) {
	if w.m != m {
		w.m, w.dead = m, nil
	}
	w.dead = append(w.dead, make([]fate, len(m.spans)-len(w.dead))...)
	for c, list := range m.from(w.at) {
		if looked == int64(budget) {
			return falls, c, looked
		}
		looked++
		for i, x := range list {
			if w.dead[x.views] == unknown {
				w.dead[x.views] = alive
				if v := m.spans[x.views]; !x.dropped() && s.users(v.from, v.to) == 0 {
					w.dead[x.views] = dead
				}
			}
			if w.dead[x.views] == dead {
				falls = fallen(falls, fall{c, 1, m.spans[x.views].to, w.slot(list, i)})
			}
		}
	}
	return falls, -1, looked
}

// slot returns the place that is free when entry i of a chunk is dropped, or -1.
func (w *sweep) slot(list []packed, i int) int64 {
	x := list[i]
	if snapshot.Where(x.place&3) != snapshot.OnStore {
		return -1
	}
	for j := range list {
		// Of those that are dropped as well the last one frees the place.
		if list[j].place == x.place && (j > i || j < i && w.dead[list[j].views] == alive) {
			return -1
		}
	}
	return int64(x.place >> 2)
}

// swept reports whether the memtables have nothing without users: a sweep has
// looked, or what they had then is in the trees. The caller has mu.
func (st *store) swept() bool {
	return st.sweep.done >= st.deletions || st.state.trees.seq >= st.doomedAt
}

// sweepStep looks at up to budget chunks of the memtable.
func (st *store) sweepStep(ctx context.Context, budget int) error {
	for {
		st.mu.Lock()
		w := &st.sweep
		if w.of != st.deletions {
			*w = sweep{done: w.done, of: st.deletions}
		}
		falls, next, looked := w.find(st.mem, &st.roll, budget)
		err := st.fell(falls)
		if err == nil {
			if w.at = next; next < 0 {
				*w = sweep{done: w.of}
			}
			st.visits += looked
		}
		st.mu.Unlock()
		if again, err := st.heat(ctx, err); !again {
			return err
		}
	}
}

// fell stages what a deletion has found, all or nothing. The caller has mu.
func (st *store) fell(falls []fall) error {
	r := record{op: opDrop}
	for _, r.fall = range falls {
		if err := st.cold(&r); err != nil {
			return err
		}
	}
	for _, r.fall = range falls {
		if err := st.stage(&r); err != nil {
			return err
		}
	}
	return nil
}

// falls appends what of a lead nobody uses. The caller has mu.
func (st *store) falls(all []fall, x *lead) []fall {
	for i := int64(0); i < x.n && x.e.to > 0; {
		f := fall{x.chunk + i, 1, x.to, -1}
		if n := st.frozen.clear(f.chunk, st.mem.clear(f.chunk, x.n-i)); n > 0 {
			if f.n = n; st.users(x.e.from, x.to) == 0 {
				if x.e.where == snapshot.OnStore && len(x.sharers) == 0 {
					f.slot = x.e.slot + i
				}
				all = fallen(all, f)
			}
			i += n
			continue
		}
		list, _ := st.recent(f.chunk, nil)
		if partial(list) {
			list, _ = settled(list, moved(nil, append(slices.Clone(x.sharers), x.e), i))
		}
		at := slices.IndexFunc(list, func(e entry) bool { return e.to == f.to })
		if at >= 0 && st.users(list[at].from, f.to) == 0 {
			if list[at].where == snapshot.OnStore && sharers(list, at) == 1 {
				f.slot = list[at].slot
			}
			all = fallen(all, f)
		}
		i++
	}
	return all
}
