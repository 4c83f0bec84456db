package ranged

import (
	"cmp"
	"context"

	"github.com/strata-storage/strata/snapshot"
)

// Step makes a checkpoint if one is due. Otherwise it frees what deleted
// snapshots used: it looks at the entries of their eras, as the tree of eras
// has them, in the order of that tree. What has changed since that tree was made
// is looked through first. Entries that are made later have users.
func (st *store) Step(ctx context.Context, budget int) (snapshot.Progress, error) {
	st.mu.RLock()
	doomed, total, swept := len(st.doomed) > 0, st.state.trees.runs, st.swept()
	making := st.frozen != nil || len(st.gone)+len(st.links) > 0
	st.mu.RUnlock()
	switch {
	case making || st.due():
		more, err := st.compactStep(ctx, max(budget, 1))
		return snapshot.Progress{Done: 1, Total: 1, More: more || doomed || err != nil}, err
	case !doomed:
		return snapshot.Progress{}, nil
	case !swept:
		return snapshot.Progress{Done: 1, Total: total + 1, More: true}, st.sweepStep(ctx, max(budget, 1))
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

// prune looks at up to budget entries of the doomed eras.
func (st *store) prune(ctx context.Context, budget int) (snapshot.Progress, error) {
	for {
		st.mu.RLock()
		t, spans := st.state.trees, st.doomed
		st.mu.RUnlock()
		w, err := st.walk(ctx, t, spans, int64(budget))
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

// A walk is what a step has found, and where it has come.
type walk struct {
	leads  []lead
	visits int64
	cursor key
	end    bool
}

func (st *store) walk(ctx context.Context, t *trees, spans []span, budget int64) (w walk, err error) {
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
			for at := c; at < c+n; {
				l, err := t.chunks.lead(ctx, at, to)
				if err != nil {
					return w, err
				}
				l.n = min(l.n, c+n-at)
				w.leads = append(w.leads, l)
				at += l.n
			}
			w.visits += n
			k = key{uint64(to), uint64(c + n)}
		}
	}
	w.end, w.cursor = true, key{max48, max48}
	return w, nil
}

// free frees what a walk has found without users. If bits must be read first the
// cursor is where that is.
func (st *store) free(t *trees, w walk) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.state.trees != t {
		return errMore
	}
	var falls []fall
	for i := range w.leads {
		x := &w.leads[i]
		// One after the other, as several of a chunk may have the same place.
		falls = st.falls(falls[:0], x)
		if err := st.fell(falls); err != nil {
			return cmp.Or(st.stage(&record{op: opCursor, cursor: key{uint64(x.to), uint64(x.chunk)}}), err)
		}
		st.visits += x.n
	}
	return st.stage(&record{op: opCursor, cursor: w.cursor})
}
