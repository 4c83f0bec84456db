package record

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strata-storage/strata/cluster/coord"
)

// A Map does what a map does, and older ones stay what they were.
func TestMap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newMap[uint64, int](cmp.Compare[uint64])
		model := map[uint64]int{}
		for k := uint64(0); k < 300*(seed%3); k++ {
			m.appendSorted(k*3, int(k))
			model[k*3] = int(k)
		}
		type old struct {
			m     Map[uint64, int]
			model map[uint64]int
		}
		var olds []old
		grow := 1 + rng.IntN(9)
		for step := range 3000 {
			key := rng.Uint64N(2000)
			if rng.IntN(10) < grow {
				m = m.with(key, step)
				model[key] = step
			} else {
				m = m.without(key)
				delete(model, key)
			}
			if step%300 == 0 {
				olds = append(olds, old{m, maps.Clone(model)})
			}
		}
		for _, o := range append(olds, old{m, model}) {
			sameMap(t, o.m, o.model)
		}
	}
}

func sameMap(t *testing.T, m Map[uint64, int], model map[uint64]int) {
	t.Helper()
	if got := maps.Collect(m.All()); !maps.Equal(got, model) || m.Len() != len(model) {
		t.Fatalf("%d entries, expected %d", m.Len(), len(model))
	}
	keys := slices.Sorted(maps.Keys(model))
	for key := range uint64(2002) {
		v, ok := m.Get(key)
		want, there := model[key]
		if v != want || ok != there {
			t.Fatalf("key %d is %d, %v, expected %d, %v", key, v, ok, want, there)
		}
		at, _ := slices.BinarySearch(keys, key)
		var got []uint64
		for k := range m.From(key) {
			if got = append(got, k); len(got) == 3 {
				break
			}
		}
		if want := keys[at:min(at+3, len(keys))]; !slices.Equal(got, want) {
			t.Fatalf("from %d there are %v, expected %v", key, got, want)
		}
	}
}

// Groups do what a map does, and older ones stay what they were.
func TestGroups(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	var g Groups
	model := map[int]coord.Revision{}
	type old struct {
		g     Groups
		model map[int]coord.Revision
	}
	var olds []old
	for step := range 2000 {
		n := GroupOf(1+rng.IntN(MaxCopies), rng.IntN(300))
		if step < 1000 {
			n = GroupOf(1+step%2, rng.IntN(300))
		}
		e := Entry[Group]{Revision: coord.Revision(rng.IntN(2) * (step + 1))}
		if step < 100 {
			g.set(n, e)
		} else {
			g = g.with(n, e)
		}
		if model[n] = e.Revision; e.Revision == 0 {
			delete(model, n)
		}
		if step >= 100 && step%200 == 0 {
			olds = append(olds, old{g, maps.Clone(model)})
		}
	}
	for _, o := range append(olds, old{g, model}) {
		last, n := -1, 0
		for number, e := range o.g.All() {
			if number <= last || e.Revision != o.model[number] {
				t.Fatalf("group %#x of revision %d behind %#x, expected revision %d", number, e.Revision, last, o.model[number])
			}
			last = number
			n++
		}
		if n != len(o.model) || o.g.Len() != n {
			t.Fatalf("%d groups, %d in all, expected %d", n, o.g.Len(), len(o.model))
		}
		for copies := range MaxCopies + 2 {
			for i := range 400 {
				if e, ok := o.g.Get(GroupOf(copies, i)); e.Revision != o.model[GroupOf(copies, i)] || ok != (e.Revision != 0) {
					t.Fatalf("group %d of %d copies has revision %d", i, copies, e.Revision)
				}
			}
		}
	}
	if _, ok := g.Get(-1); ok {
		t.Error("there is a group -1")
	}
}
