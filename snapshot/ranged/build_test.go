package ranged

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// TestSmallSteps (R12): a checkpoint is made in steps that make few nodes each
// and flush once at most. Commits go on between them, and a crash there loses
// nothing.
func TestSmallSteps(t *testing.T) {
	t.Parallel()
	b := newBench(t, 512<<20, 1<<30, nil)
	rng := rand.New(rand.NewPCG(5, 5))
	id := b.create()
	grow := func(n int) {
		for range n {
			b.grow(snapshot.Request{Op: snapshot.Write, Chunk: rng.Int64N(b.st.geo.chunks()), N: 1})
		}
	}
	grow(20_000)
	b.must(b.st.compact(t.Context()))
	grow(20_000)
	want := map[int64]int64{}
	steps, most := 0, 0
	for more := true; more; steps++ {
		nodes, flushes := b.st.space.nodes, b.dev.flushes
		more = b.compactStep(4096)
		most = max(most, int(b.st.space.nodes-nodes))
		if b.dev.flushes > flushes+3 { // of the ring, and of a commit
			t.Fatalf("step %d flushes %d times", steps, b.dev.flushes-flushes)
		}
		c := rng.Int64N(b.st.geo.chunks())
		b.write(snapshot.Origin, c, 1)
		b.commit()
		want[c] = b.place(snapshot.Origin, c).Off
		if steps%16 != 3 {
			continue
		}
		other := b.load()
		for c, off := range want {
			if got, err := other.Map(t.Context(), snapshot.Origin, c, 1, 0); err != nil || got.Off != off {
				t.Fatalf("after a crash at step %d chunk %d is at %v (%v), expected %d", steps, c, got, err, off)
			}
		}
		if all := b.problems(other); len(all) > 0 || other.exists(id) != nil {
			t.Fatalf("after a crash at step %d: %v", steps, all)
		}
	}
	if most > 4096/nodeWork+8 || steps < 20 {
		t.Errorf("in %d steps up to %d nodes are made in one", steps, most)
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Error(all)
	}
}

// compactStep goes on with a checkpoint, and begins it.
func (b *bench) compactStep(budget int) bool {
	b.Helper()
	more, err := b.st.compactStep(b.Context(), budget)
	b.must(err)
	return more
}

// TestGivenUp: a checkpoint that is given up half-way leaves everything as it
// was.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, 64<<20, 64<<20, nil)
	b.create()
	for c := int64(0); c < 3000; c += 2 {
		b.grow(snapshot.Request{Op: snapshot.Detach, Chunk: c, N: 1})
	}
	b.must(b.st.compact(t.Context()))
	for c := int64(1); c < 3000; c += 2 {
		b.grow(snapshot.Request{Op: snapshot.Detach, Chunk: c, N: 1})
	}
	b.must(b.st.Commit(t.Context(), 0))
	for steps := range 12 {
		before := b.st.space.nodes
		for range steps {
			b.compactStep(512)
		}
		if b.st.draft == nil != (steps == 0) {
			t.Fatalf("after %d steps there is a draft: %v", steps, b.st.draft != nil)
		}
		// Refresh gives it up, as others may have used its blocks.
		b.refresh()
		if b.st.draft != nil || b.st.frozen != nil || b.st.space.nodes != before {
			t.Fatalf("after %d steps %d nodes are left of %d", steps, b.st.space.nodes, before)
		}
		for c := int64(0); c < 3000; c++ {
			if b.place(1, c).Where != snapshot.OnStore {
				t.Fatalf("chunk %d is lost", c)
			}
		}
	}
	b.must(b.st.compact(t.Context()))
	if all := b.problems(b.st); len(all) > 0 || !b.st.mem.empty() {
		t.Error(all)
	}
}

// TestCheckpointAsCommitFails: when a commit that did not fit into the log, and
// was to be a checkpoint, has failed, the next one makes it durable.
func TestCheckpointAsCommitFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, 64<<20, 64<<20, nil)
	b.st.tight = true
	failed := false
	b.dev.refuse = func(off int64) bool {
		d := b.st.draft
		now := !failed && d != nil && d.whole && off == ringSlot(d.gen)
		failed = failed || now
		return now
	}
	var ids []snapshot.ID
	for err := error(nil); err == nil; {
		ids = append(ids, b.create())
		if err = b.st.Commit(t.Context(), 0); err != nil && !failed {
			t.Fatal(err)
		}
	}
	b.commit()
	b.st = b.load()
	if !slices.Equal(b.st.live, ids) {
		t.Errorf("there are %v, expected %v", b.st.live, ids)
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Error(all)
	}
}
