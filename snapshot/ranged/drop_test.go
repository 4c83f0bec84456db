package ranged

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// layers makes a store in which each of n chunks, none beside another, has an
// entry for each of some snapshots but the first, and one for the origin.
func layers(t *testing.T, snapshots int, n int64) *bench {
	b := newBench(t, 1<<30, 64<<20, nil)
	for range snapshots {
		b.create()
		for c := range n {
			b.grow(snapshot.Request{Op: snapshot.Write, View: snapshot.Origin, Chunk: 2 * c, N: 1})
		}
	}
	b.commit()
	return b
}

// TestDeleteCosts: to delete a snapshot costs the same for each of its chunks
// however many others have the chunk too, both where those are in the trees and
// where they have changed since. No checkpoint is made for it.
func TestDeleteCosts(t *testing.T) {
	t.Parallel()
	const n = 4000
	type costs struct{ written, memory, visits, read int64 }
	measure := func(snapshots int, compact bool) (c costs) {
		b := layers(t, snapshots, n)
		if compact {
			b.must(b.st.compact(t.Context()))
		}
		places, gen, memory := b.st.space.all, b.st.gen, b.st.mem.bytes
		b.dev.written, b.dev.read = 0, 0
		b.must(b.st.Delete(t.Context(), []snapshot.ID{2}))
		b.work()
		if b.st.space.all != places-n || b.st.gen != gen {
			t.Errorf("%d snapshots: %d places of %d are in use, checkpoint %d follows %d", snapshots, b.st.space.all, places, b.st.gen, gen)
		}
		c = costs{b.dev.written, b.st.mem.bytes - memory, b.st.visits, b.dev.read}
		if all := b.problems(b.load()); len(all) > 0 {
			t.Error(all)
		}
		return c
	}
	for _, compact := range []bool{false, true} {
		few, many := measure(2, compact), measure(12, compact)
		if few != many || many.written > 16*n || many.memory > 40*n || many.visits != n || many.read != 0 {
			t.Errorf("with 2 snapshots %+v, with 12 %+v, for %d chunks", few, many, n)
		}
	}
}

// TestSweepCosts: of a memtable that is swept each chunk is looked at once, some
// at a time, also if other snapshots are deleted meanwhile.
func TestSweepCosts(t *testing.T) {
	t.Parallel()
	const n, budget = 4000, 100
	b := layers(t, 4, n)
	places := b.st.space.all
	b.must(b.st.Delete(t.Context(), []snapshot.ID{2}))
	for i := range int64(3) {
		_, err := b.st.Step(t.Context(), budget)
		b.must(err)
		if want := (i + 1) * budget; b.st.visits != want || b.st.space.all != places-want {
			t.Fatalf("step %d: %d chunks were looked at, %d places are in use of %d, expected %d less", i, b.st.visits, b.st.space.all, places, want)
		}
	}
	b.must(b.st.Delete(t.Context(), []snapshot.ID{3}))
	b.work()
	if want := int64(3*budget + n); b.st.visits != want || b.st.space.all != places-2*n {
		t.Errorf("%d chunks were looked at, expected %d; %d places are in use, expected %d", b.st.visits, want, b.st.space.all, places-2*n)
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Error(all)
	}
}

// TestDroppedSharer: who is left with a place may write it, wherever it says
// that the others are gone.
func TestDroppedSharer(t *testing.T) {
	t.Parallel()
	for _, compact := range []bool{false, true} {
		b := newBench(t, 4<<20, 1<<20, nil)
		for range 3 {
			b.create()
		}
		b.detach(7, 1)
		b.write(2, 7, 1) // so that 1 and 3 are apart
		b.commit()
		b.must(b.st.compact(t.Context()))
		b.must(b.st.Delete(t.Context(), []snapshot.ID{1}))
		if b.place(3, 7).Writable {
			t.Error("snapshot 3 may write what is not known to be free")
		}
		b.work()
		if compact {
			b.must(b.st.compact(t.Context()))
		}
		if !b.place(3, 7).Writable || b.st.space.all != 2 {
			t.Errorf("snapshot 3 is at %+v, %d places are in use", b.place(3, 7), b.st.space.all)
		}
	}
}

// A tale is a random history of a small store, of which it is known where each
// snapshot has each chunk.
type tale struct {
	*bench
	rng  *rand.Rand
	ids  []snapshot.ID
	seen map[[2]int64]int64
}

// look compares where the chunks are, or notes it.
func (x *tale) look(what string, note bool) {
	x.Helper()
	for _, id := range append(x.ids, snapshot.Origin) {
		for c := range x.st.geo.chunks() {
			k, at := [2]int64{int64(id), c}, x.place(id, c)
			if off := at.Off*4 + int64(at.Where); note {
				x.seen[k] = off
			} else if x.seen[k] != off {
				x.Fatalf("after %s snapshot %d has chunk %d at %d, expected %d", what, id, c, off, x.seen[k])
			}
		}
	}
}

// change does what clients do.
func (x *tale) change() {
	chunks := x.st.geo.chunks()
	for range x.rng.IntN(20) {
		c := x.rng.Int64N(chunks)
		r := snapshot.Request{Op: snapshot.Detach, Chunk: c, N: 1 + x.rng.Int64N(min(5, chunks-c))}
		if x.rng.IntN(3) > 0 {
			if r.Op = snapshot.Write; x.rng.IntN(4) == 0 {
				r.Op = snapshot.Clear
			}
			r.View = append(x.ids, snapshot.Origin)[x.rng.IntN(len(x.ids)+1)]
		}
		x.do(r)
	}
	if len(x.ids) < 6 && x.rng.IntN(2) == 0 {
		x.ids = append(x.ids, x.create())
	}
	if len(x.ids) > 0 && x.rng.IntN(3) == 0 {
		i := x.rng.IntN(len(x.ids))
		x.must(x.st.Delete(x.Context(), x.ids[i:i+1]))
		x.ids = slices.Delete(slices.Clone(x.ids), i, i+1)
	}
	x.look("a change", true)
}

// step does a bit of what the background does, or of what a crash does.
func (x *tale) step() string {
	budget := 1 + x.rng.IntN(60)
	switch x.rng.IntN(8) {
	case 0:
		x.commit()
		return "a commit"
	case 1:
		_, err := x.st.compactStep(x.Context(), budget)
		x.must(err)
		return "a step of a checkpoint"
	case 2:
		if x.st.draft != nil && x.rng.IntN(3) == 0 {
			x.refresh()
		}
		return "a checkpoint that is given up"
	case 3:
		if x.rng.IntN(4) == 0 {
			x.commit()
			x.st = x.load()
		}
		return "a crash"
	case 4, 5:
		// As if a commit had begun a checkpoint between what Step does.
		if len(x.st.doomed) > 0 && x.st.swept() {
			_, err := x.st.prune(x.Context(), budget)
			x.must(err)
		}
		return "a look at an era"
	default:
		_, err := x.st.Step(x.Context(), budget)
		x.must(err)
		return "a step"
	}
}

// TestDeletions deletes snapshots little by little, with changes, checkpoints
// and crashes between: what the others have stays where it is, and in the end
// nothing is left.
func TestDeletions(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		share := []string{"refs", "exact"}[seed%2]
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			x := &tale{newBench(t, 4<<20, 256<<10, map[string]string{"share": share}), rand.New(rand.NewPCG(seed, 3)), nil, map[[2]int64]int64{}}
			for range 60 {
				x.change()
				for range x.rng.IntN(12) {
					x.look(x.step(), false)
				}
				if x.rng.IntN(5) == 0 {
					if all := x.problems(x.st); len(all) > 0 {
						t.Fatal(all[:min(len(all), 5)])
					}
				}
			}
			x.do(snapshot.Request{Op: snapshot.Clear, N: x.st.geo.chunks()})
			x.must(x.st.Delete(t.Context(), x.ids))
			x.work()
			if all := x.problems(x.st); len(all) > 0 || x.st.space.all != 0 {
				t.Errorf("without snapshots %d places are in use; %v", x.st.space.all, all)
			}
		})
	}
}
