package ranged

import (
	"context"

	"github.com/strata-storage/strata/snapshot"
)

// A lead is what the eras say may be of no use: the entry of chunks in a row
// that ends at a snapshot, as the map has it for the first, and the others of
// that chunk that have its place. Without an entry the trees contradict each
// other, as Check tells.
type lead struct {
	chunk, n int64
	to       snapshot.ID
	e        entry
	sharers  []entry
}

// lead finds the entry of a chunk that ends at a snapshot. Chunks may have many
// others, of which it looks only at what it must.
func (t *tree) lead(ctx context.Context, c int64, to snapshot.ID) (lead, error) {
	x := lead{chunk: c, n: 1, to: to}
	if t.root == nil {
		return x, nil
	}
	n, last, _, err := t.descend(ctx, key{uint64(c), max48}, 0)
	if err != nil || last < 0 {
		return x, err
	}
	start, run := n.run(last)
	if c >= start+run {
		return x, nil
	}
	x.n = min(start+run-c, maxRun)
	if e := n.entryAt(last); e.where == snapshot.OnOrigin {
		list, err := t.chain(ctx, e, nil, 0, nil)
		x.take(list)
		return x.moved(c - start), err
	}
	first, hit := last, -1
	for i := last; i >= 0 && int64(n.first(i)) == start; i-- {
		if first = i; n.get(colTo, i) == uint64(to)+1 {
			hit = i
		}
	}
	if hit < 0 {
		return x, nil
	}
	x.e = n.entryAt(hit)
	place := n.get(colPlace, hit)
	for i := first; i <= last && x.e.where == snapshot.OnStore; i++ {
		if i != hit && n.get(colPlace, i) == place {
			x.sharers = append(x.sharers, n.entryAt(i))
		}
	}
	return x.moved(c - start), nil
}

// take finds the entry in a list.
func (x *lead) take(list []entry) {
	for i := range list {
		if list[i].to == x.to {
			x.e = list[i]
		}
	}
	for i := range list {
		if e := &list[i]; e.to != x.to && e.where == snapshot.OnStore && e.same(&x.e) {
			x.sharers = append(x.sharers, *e)
		}
	}
}

// moved returns the lead with the places that are i chunks behind.
func (x lead) moved(i int64) lead {
	x.sharers = moved(x.sharers[:0], x.sharers, i)
	if x.e.where == snapshot.OnStore {
		x.e.slot += i
	}
	return x
}
