package replica

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"github.com/strata-storage/strata/cluster/disk"
)

// paged is a pager of so many objects of each group, whose pages have 1000 of them.
func paged(v *Volume, all []disk.Object) pager {
	groups := map[int][]disk.Summary{}
	for _, o := range all {
		g := GroupOf(o, v.c.Copies, v.c.Count)
		groups[g] = append(groups[g], disk.Summary{Object: o})
	}
	for _, list := range groups {
		slices.SortFunc(list, func(a, b disk.Summary) int { return cmp.Compare(a.Hash(), b.Hash()) })
	}
	return func(index, from uint64) ([]disk.Summary, bool, error) {
		list := groups[v.groupOf(index)]
		i, _ := slices.BinarySearchFunc(list, from, func(s disk.Summary, from uint64) int { return cmp.Compare(s.Hash(), from) })
		list = list[i:]
		return list[:min(len(list), 1000)], len(list) > 1000, nil
	}
}

// A census has all objects of the family, in bounded memory and time.
func TestCensus(t *testing.T) {
	t.Parallel()
	v := &Volume{c: Config{Head: Head{Family: 7}, Copies: 3, Count: 4}}
	var all []disk.Object
	for i := range uint64(maxCensus + 5) {
		all = append(all, disk.Object{Family: 7, Index: 10 + 3*i})
	}
	most := all[maxCensus].Index
	c, err := v.take(11, 1<<40, paged(v, all))
	must(t, err)
	if !c.covers(11) || c.covers(10) || c.end != most+3 || len(c.there) != maxCensus {
		t.Errorf("from %d to %d there are %d objects", c.first, c.end, len(c.there))
	}
	for index, next := range map[uint64]uint64{5: 5, 10: 10, 11: 13, 12: 13, 13: 13, 14: 16, most: most, most + 1: most + 3} {
		if got := c.next(index); got != next || c.lacks(index) != (got != index) {
			t.Errorf("from %d on the first one is %d, expected %d, and %d is lacking: %v", index, got, next, index, c.lacks(index))
		}
	}
	if c.lacks(most+4) || c.lacks(most+5) {
		t.Error("it says something of what it is not about")
	}

	for i := range all {
		all[i].Family = 8
	}
	if _, err := v.take(0, 10_000, paged(v, all)); !errors.Is(err, errTooMany) {
		t.Errorf("among too many objects of others: %v", err)
	}
	failure := errors.New("a member fails")
	if _, err := v.take(0, 1000, func(_, _ uint64) ([]disk.Summary, bool, error) { return nil, false, failure }); !errors.Is(err, failure) {
		t.Errorf("without a list: %v", err)
	}
}
