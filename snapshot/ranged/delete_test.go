package ranged

import (
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/strata-storage/strata/snapshot"
)

// TestDoomed: a batch of deletions, in any order, dooms what single ones doom.
func TestDoomed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		g := fuzzGeometry()
		one, each := newState(&g, &cache{geo: &g}), newState(&g, &cache{geo: &g})
		for id := snapshot.ID(1); id <= 40; id++ {
			one.live, each.live = append(one.live, id), append(each.live, id)
		}
		one.next, each.next = 41, 41
		for range 3 {
			ids := slices.Clone(one.live)
			rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			ids = append(ids[:rng.IntN(len(ids)+1)], 99)
			one.delete(append(ids, ids...))
			for _, id := range ids {
				each.delete([]snapshot.ID{id})
			}
			if !slices.Equal(one.live, each.live) {
				t.Fatalf("%v are left, one by one %v", one.live, each.live)
			}
			for era := range uint64(41) {
				for c := range uint64(3) {
					k := key{era, c}
					in := func(s *state) bool {
						return slices.ContainsFunc(s.doomed, func(x span) bool { return !k.less(x.from) && era <= uint64(x.to) })
					}
					if in(one) != in(each) {
						t.Fatalf("seed %d: %v are doomed, one by one %v", seed, one.doomed, each.doomed)
					}
				}
			}
			at := key{rng.Uint64N(41), rng.Uint64N(3)}
			one.advance(at)
			each.advance(at)
		}
	}
}

// TestRollIsShared: taking a snapshot copies the list of those that exist at
// most now and then, and who has an older one does not see it.
func TestRollIsShared(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4<<20, 1<<20, nil)
	copies, at := 0, (*snapshot.ID)(nil)
	old := b.st.roll
	for i := range 10_000 {
		b.create()
		if x := unsafe.SliceData(b.st.live); x != at {
			copies, at = copies+1, x
		}
		if i == 5000 {
			old = b.st.roll
		}
	}
	if copies > 100 {
		t.Errorf("the list was copied %d times for 10000 snapshots", copies)
	}
	b.must(b.st.Delete(t.Context(), old.live[1:5000]))
	b.create()
	if len(old.live) != 5001 || old.live[4999] != 5000 || old.exists(5002) == nil {
		t.Errorf("an older roll has %d snapshots, up to %d", len(old.live), old.live[len(old.live)-1])
	}
	if len(b.st.doomed) != 1 {
		t.Errorf("%d spans are doomed, expected one", len(b.st.doomed))
	}
}
