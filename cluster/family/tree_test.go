package family

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
)

// random returns n versions with gaps between the IDs. deep is how often of ten
// a version continues the last one.
func random(rng *rand.Rand, n, deep int) []Version {
	var list []Version
	id := uint64(0)
	for range n {
		id += 1 + rng.Uint64N(3)
		v := Version{ID: id, Doomed: rng.IntN(4) == 0}
		switch k := len(list); {
		case k == 0 || rng.IntN(50) == 0:
		case rng.IntN(10) < deep:
			v.Parent = list[k-1].ID
		default:
			v.Parent = list[rng.IntN(k)].ID
		}
		list = append(list, v)
	}
	return list
}

// The tree answers what following the parents one by one does.
func TestTreeAgainstParents(t *testing.T) {
	t.Parallel()
	for seed := range uint64(blocktest.Times(30)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		list := random(rng, 1+rng.IntN(200), rng.IntN(11))
		parent, kids := map[uint64]uint64{}, map[uint64][]uint64{}
		for _, v := range list {
			parent[v.ID] = v.Parent
			kids[v.Parent] = append(kids[v.Parent], v.ID)
		}
		shuffled := slices.Clone(list)
		rng.Shuffle(len(list), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		tree, err := New(seed, shuffled)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Revision() != seed || tree.Len() != len(list) || !slices.Equal(tree.Versions(), list) {
			t.Fatalf("revision %d and %d versions", tree.Revision(), tree.Len())
		}
		for _, v := range list {
			if got, ok := tree.Version(v.ID); !ok || got != v {
				t.Fatalf("version %d is %v", v.ID, got)
			}
			if got := tree.Children(v.ID); !slices.Equal(got, kids[v.ID]) || tree.Leaf(v.ID) != (len(got) == 0) {
				t.Fatalf("children of %d are %v, expected %v", v.ID, got, kids[v.ID])
			}
			for range 20 {
				limit := rng.Uint64N(list[len(list)-1].ID + 2)
				want := v.ID
				for want > limit {
					want = parent[want]
				}
				if got := tree.Floor(v.ID, limit); got != want {
					t.Fatalf("seed %d: Floor(%d, %d) = %d, expected %d", seed, v.ID, limit, got, want)
				}
			}
		}
		for line, at := 0, 0; at < len(list); at++ {
			// From no version more lines than bits.
			line = 0
			for i := int32(at); i >= 0; i = tree.parents[tree.lines[tree.start[i]]] {
				line++
			}
			if line > bits.Len(uint(len(list))) {
				t.Fatalf("%d lines above one of %d versions", line, len(list))
			}
		}
	}
}

func TestTreeOfNothing(t *testing.T) {
	t.Parallel()
	tree, err := New(7, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tree.Version(1); ok || tree.Leaf(1) || tree.Floor(1, 1) != 0 || tree.Children(1) != nil {
		t.Error("there is something in an empty tree")
	}
}

func TestNotATree(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]Version{
		"no ID":          {{ID: 0}},
		"twice":          {{ID: 1}, {ID: 1}},
		"its own parent": {{ID: 1, Parent: 1}},
		"younger parent": {{ID: 1, Parent: 2}, {ID: 2}},
		"missing parent": {{ID: 3, Parent: 2}},
	} {
		if _, err := New(1, list); !errors.Is(err, ErrTree) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A hundred thousand snapshots in a row, and as many clones of one.
func BenchmarkFloor(b *testing.B) {
	const n = 100_000
	list := make([]Version, n)
	for i := range list {
		list[i] = Version{ID: uint64(i + 1), Parent: uint64(i)}
	}
	tree, err := New(1, list)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if tree.Floor(n, 17) != 17 {
			b.Fatal("wrong")
		}
	}
}

func BenchmarkNew(b *testing.B) {
	list := random(rand.New(rand.NewPCG(1, 1)), 100_000, 9)
	for b.Loop() {
		if _, err := New(1, list); err != nil {
			b.Fatal(err)
		}
	}
}
