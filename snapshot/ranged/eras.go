package ranged

import (
	"maps"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// eraChanges are those of the tree of eras: the chunks that an era gets and
// loses. They are found in the order of the chunks, so those of an era are in
// order.
type eraChanges struct {
	// chunks are twice the number of each, and one if the era gets it.
	chunks map[snapshot.ID][]uint64
	// eras are those that are left, once the first was asked for.
	eras   []snapshot.ID
	i      int
	sorted bool
}

// note adds how the eras change with the entries of a chunk.
func (x *eraChanges) note(c int64, old, list []entry) {
	if x.chunks == nil {
		x.chunks = map[snapshot.ID][]uint64{}
	}
	has := func(list []entry, to snapshot.ID) bool {
		return slices.ContainsFunc(list, func(e entry) bool { return e.to == to })
	}
	for i := range old {
		if to := old[i].to; to != head && !has(list, to) {
			x.chunks[to] = append(x.chunks[to], uint64(c)<<1)
		}
	}
	for i := range list {
		if to := list[i].to; to != head && !has(old, to) {
			x.chunks[to] = append(x.chunks[to], uint64(c)<<1|1)
		}
	}
}

func (x *eraChanges) peek() (key, bool) {
	if !x.sorted {
		x.eras, x.sorted = slices.Sorted(maps.Keys(x.chunks)), true
	}
	if len(x.eras) == 0 {
		return key{}, false
	}
	return key{uint64(x.eras[0]), x.chunks[x.eras[0]][x.i] >> 1}, true
}

func (x *eraChanges) next() op {
	to := x.eras[0]
	v := x.chunks[to][x.i]
	if x.i++; x.i == len(x.chunks[to]) {
		delete(x.chunks, to)
		x.eras, x.i = x.eras[1:], 0
	}
	return op{k: key{uint64(to), v >> 1}, add: v&1 != 0}
}
