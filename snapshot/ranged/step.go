package ranged

import (
	"context"

	"github.com/strata-storage/strata/snapshot"
)

// sweepable is how many chunks the memtables may have to be looked through
// after a deletion, without a checkpoint.
const sweepable = 4096

// Step makes a checkpoint if one is due. Otherwise it frees what deleted
// snapshots used: it looks at the entries of their eras, as the tree of eras
// has them, in the order of that tree.
//
// What has changed since that tree was made is looked through first, or if it
// is much a checkpoint is made. Entries that are made later have users.
func (st *store) Step(ctx context.Context, budget int) (snapshot.Progress, error) {
	st.mu.RLock()
	doomed, total := len(st.doomed) > 0, st.state.trees.runs
	old := st.swept < st.deletions && st.state.trees.seq < st.doomedAt
	many := st.mem.chunks > sweepable || st.frozen != nil
	making := st.frozen != nil || len(st.gone)+len(st.links) > 0
	st.mu.RUnlock()
	if making || st.due() || doomed && old && many {
		more, err := st.compactStep(ctx, max(budget, 1))
		return snapshot.Progress{Done: 1, Total: 1, More: more || doomed || err != nil}, err
	}
	if !doomed {
		return snapshot.Progress{}, nil
	}
	if old {
		return snapshot.Progress{Done: 1, Total: total + 1, More: true}, st.sweep(ctx)
	}
	return st.prune(ctx, max(budget, 1))
}

// compactStep goes on with a checkpoint, or begins one, and reports whether there
// is more to do for it.
func (st *store) compactStep(ctx context.Context, budget int) (more bool, err error) {
	st.making.Lock()
	defer st.making.Unlock()
	if st.eager {
		budget = nodeWork // hardly more than a node at a time, with commits between
	}
	switch {
	case st.draft != nil:
		err = st.further(ctx, 0, budget)
	case len(st.gone)+len(st.links) == 0:
		err = st.begin(ctx, 0)
	default:
		st.clear(budget)
	}
	return st.draft != nil || len(st.gone)+len(st.links) > 0, err
}

// sweep frees what the memtables have.
func (st *store) sweep(ctx context.Context) error {
	for {
		st.mu.Lock()
		at := &reading{st: st, t: st.state.trees}
		c := st.change(at)
		looked := int64(0)
		for chunk, list := range st.mem.all() {
			looked++
			if st.useless(list) {
				c.add(chunk, st.pruned(list))
			}
		}
		err := c.stage()
		if err == nil {
			st.swept = st.deletions
			st.visits += looked
		}
		st.mu.Unlock()
		if again, err := st.heat(ctx, err); !again {
			return err
		}
	}
}

// prune looks at up to budget entries of the doomed eras.
func (st *store) prune(ctx context.Context, budget int) (snapshot.Progress, error) {
	for {
		st.mu.RLock()
		t, spans, roll := st.state.trees, st.doomed, st.roll
		st.mu.RUnlock()
		w, err := st.walk(ctx, t, spans, &roll, int64(budget))
		if err != nil {
			if st.outdated(t, err) {
				continue
			}
			return snapshot.Progress{More: true}, err
		}
		again, err := st.heat(ctx, st.free(t, w))
		if err == nil && !again {
			return snapshot.Progress{Done: max(w.visits, 1), Total: max(t.runs, 1), More: !w.end}, nil
		}
		if err != nil && err != errMore {
			return snapshot.Progress{More: true}, err
		}
	}
}

// A walk is what a step has found: readings of the chunks that are to be looked
// at, and where it has come.
type walk struct {
	found  []*reading
	visits int64
	cursor key
	end    bool
}

func (st *store) walk(ctx context.Context, t *trees, spans []span, roll *roll, budget int64) (w walk, err error) {
	next := uint64(0) // the first era that has anything
	for _, x := range spans {
		for k := x.from; uint64(x.to) >= next; {
			if w.cursor = k; w.visits >= budget {
				return w, nil
			}
			to, c, n, ok, err := t.eras.eraRun(ctx, k)
			if err != nil {
				return w, err
			}
			if next = uint64(to); !ok {
				next = max48
			}
			if next > uint64(x.to) {
				break
			}
			n = min(n, budget-w.visits)
			r := &reading{st: st, t: t, chunk: c}
			for at := c; at < c+n; {
				g, err := t.chunks.find(ctx, at, nil, 0)
				if err != nil {
					return w, err
				}
				g.n = min(g.n, c+n-at)
				r.groups = append(r.groups, g)
				at += g.n
			}
			w.found = append(w.found, r)
			w.visits += n
			k = key{uint64(to), uint64(c + n)}
		}
	}
	w.end, w.cursor = true, key{max48, max48}
	return w, nil
}

// free frees what a walk has found without users.
func (st *store) free(t *trees, w walk) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.state.trees != t {
		return errMore
	}
	var changes []*change
	seen := map[int64]bool{} // chunks can be in several eras
	for _, r := range w.found {
		x := st.change(r)
		for c := r.chunk; c < r.end(); c++ {
			if list := r.at(c); !seen[c] && st.useless(list) {
				seen[c] = true
				x.add(c, st.pruned(list))
			}
		}
		for i := range x.records {
			if err := st.cold(&x.records[i]); err != nil {
				return err
			}
		}
		changes = append(changes, x)
	}
	for _, x := range changes {
		if err := x.stage(); err != nil {
			return err
		}
	}
	st.visits += w.visits
	return st.stage(&record{op: opCursor, cursor: w.cursor})
}
