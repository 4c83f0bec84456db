package ranged

import (
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// pair returns two stores, with small chunks, on the same device.
func pair(t *testing.T, args map[string]string) [2]*bench {
	a := newBench(t, 64<<20, 64<<20, args)
	a.cfg.Chunk, a.cfg.Format = 512, snapshot.Always
	a.st = a.load()
	a.cfg.Format = snapshot.Never
	return [2]*bench{a, {TB: t, dev: a.dev, cfg: a.cfg, st: a.load()}}
}

// TestDeletionInTurns: two stores that take turns, each for less than a
// checkpoint takes, free what deleted snapshots used, in about as many steps as
// one would need.
func TestDeletionInTurns(t *testing.T) {
	t.Parallel()
	const chunks, steps, budget = 3 * 4096, 3, 500
	two := pair(t, nil)
	a := two[0]
	var ids []snapshot.ID
	for range 3 {
		ids = append(ids, a.create())
		for c := range int64(chunks) {
			a.write(snapshot.Origin, 2*c, 1)
		}
	}
	a.must(a.st.Delete(t.Context(), ids[1:]))
	a.commit()
	two[1].refresh()
	// Both look at all there is.
	most := 2*3*chunks/(steps*budget) + 10
	for turn := 0; ; turn++ {
		b, other := two[turn%2], two[1-turn%2]
		b.refresh()
		if b.st.seq != other.st.seq {
			t.Fatalf("turn %d begins at commit %d of %d", turn, b.st.seq, other.st.seq)
		}
		more := false
		for range steps {
			p, err := b.st.Step(t.Context(), budget)
			b.must(err)
			more = p.More
		}
		if !more {
			break
		}
		if turn == most {
			t.Fatalf("after %d turns of %d steps %d places of %d are in use", turn, steps, b.st.space.all, chunks)
		}
		b.commit()
	}
	if a.st.space.all != chunks {
		t.Errorf("%d places are in use, expected %d", a.st.space.all, chunks)
	}
	for _, b := range two {
		b.commit()
		two[0].refresh()
		two[1].refresh()
	}
	for i, b := range two {
		if all := b.problems(b.st); len(all) > 0 {
			t.Errorf("store %d: %v", i, all)
		}
	}
}

// TestDeletionMeanwhile: what one deletes while the other sweeps is looked for
// where that has been already.
func TestDeletionMeanwhile(t *testing.T) {
	t.Parallel()
	two := pair(t, nil)
	a, b := two[0], two[1]
	const chunks = 1000
	var ids []snapshot.ID
	for range 2 {
		ids = append(ids, a.create())
		for c := range int64(chunks) {
			a.detach(c, 1)
			a.write(snapshot.Origin, c, 1)
		}
	}
	a.commit()
	a.must(a.st.Delete(t.Context(), ids[:1]))
	_, err := a.st.Step(t.Context(), chunks/2)
	a.must(err)
	if a.st.sweep.at == 0 || a.st.visits < chunks/2 || a.st.visits > chunks/2+4 {
		t.Fatalf("a step with a budget of %d visits %d chunks, up to chunk %d", chunks/2, a.st.visits, a.st.sweep.at)
	}
	a.commit()
	b.refresh()
	b.must(b.st.Delete(t.Context(), ids[1:]))
	b.commit()
	a.refresh()
	a.work()
	if a.st.space.all != chunks {
		t.Errorf("%d places are in use, expected %d, those of the origin", a.st.space.all, chunks)
	}
	if all := a.problems(a.st); len(all) > 0 {
		t.Error(all)
	}
}

// TestGivenUpInTurns: to give a draft up costs what has changed since it was
// begun, and another one is begun only when more has changed; but the limits of
// memory and log hold.
func TestGivenUpInTurns(t *testing.T) {
	t.Parallel()
	two := pair(t, map[string]string{"memory": "1M"})
	a, b := two[0], two[1]
	a.create()
	next := int64(0)
	begun, most := 0, int64(0)
	for gen := a.st.gen; a.st.gen == gen; {
		for range 50 {
			a.write(snapshot.Origin, 2*next, 1)
			next++
		}
		_, err := a.st.Step(t.Context(), 64)
		a.must(err)
		a.commit()
		most = max(most, a.st.changed())
		if a.st.gen != gen {
			break
		}
		frozen := a.st.frozen
		b.refresh()
		b.commit()
		a.refresh()
		if frozen != nil {
			if begun++; a.st.mem != frozen || a.st.frozen != nil {
				t.Fatal("what was frozen is copied, not what has changed since")
			}
		}
		if a.st.due() && frozen != nil {
			t.Fatal("another draft is due at once")
		}
	}
	if begun < 1 || begun > lostParts+1 {
		t.Errorf("%d drafts were given up before a commit made the checkpoint, expected up to %d", begun, lostParts+1)
	}
	if limit := 2*a.st.memLimit() + 64<<10; most > limit || a.st.lost != (loss{}) {
		t.Errorf("up to %d bytes changed, expected at most %d; %v", most, limit, a.st.lost)
	}
	b.refresh()
	for i, x := range two {
		if all := x.problems(x.st); len(all) > 0 {
			t.Errorf("store %d: %v", i, all)
		}
		for c := range next {
			if x.place(snapshot.Origin, 2*c).Where != snapshot.OnStore {
				t.Fatalf("store %d: chunk %d is lost", i, 2*c)
			}
		}
	}
}

// TestListed: a store is told whether others have changed snapshots or values,
// and not when they did anything else.
func TestListed(t *testing.T) {
	t.Parallel()
	two := pair(t, nil)
	a, b := two[0], two[1]
	for _, x := range []struct {
		what string
		want bool
		do   func()
	}{
		{"nothing", false, func() {}},
		{"a snapshot", true, func() { a.create(); a.create() }},
		{"a write", false, func() { a.write(snapshot.Origin, 1, 1) }},
		{"a value", true, func() { a.must(a.st.Put(t.Context(), "k", []byte("v"))) }},
		{"a value less", true, func() { a.must(a.st.Put(t.Context(), "k", nil)) }},
		{"a deletion", true, func() { a.must(a.st.Delete(t.Context(), []snapshot.ID{1})) }},
		{"background work", false, a.work},
		{"a checkpoint", true, func() { a.must(a.st.compact(t.Context())) }},
	} {
		x.do()
		a.commit()
		if got := b.refreshes(b.st); got != x.want {
			t.Errorf("after %s listed is %v", x.what, got)
		}
	}
}
