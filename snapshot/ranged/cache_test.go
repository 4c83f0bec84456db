package ranged

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// cached returns how many nodes the trees have in memory, and what they take.
func (b *bench) cached() (n int, bytes int64) {
	b.Helper()
	var walk func(l *link)
	walk = func(l *link) {
		x := l.p.Load()
		if x == nil {
			return
		}
		n, bytes = n+1, bytes+x.bytes()
		for i, kid := range x.kids {
			if near := x.near[i].Load(); near != nil && (near.up != x || near.index != i || kid.p.Load() != near) {
				b.Errorf("node %d below that at %d is %p, of %p at %d, expected %p", i, l.addr, near, near.up, near.index, kid.p.Load())
			}
			walk(kid)
		}
	}
	for _, t := range []*tree{b.st.chunks, b.st.eras} {
		if t.root != nil {
			walk(t.root)
		}
	}
	return n, bytes
}

// TestCacheCosts: of nodes only those are in memory that the trees have, however
// many checkpoints there were before, so that an exception takes few bytes.
func TestCacheCosts(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2<<30, 1<<30, map[string]string{"memory": "1G"})
	rng := rand.New(rand.NewPCG(2, 2))
	b.create()
	look := func(what string) {
		t.Helper()
		for range 2000 {
			b.place(1, rng.Int64N(b.st.geo.chunks()))
		}
		n, bytes := b.cached()
		if c := b.st.chunks.cache; len(c.nodes) != n || c.bytes != bytes {
			t.Errorf("after %s the cache has %d nodes of %d bytes, the trees have %d of %d", what, len(c.nodes), c.bytes, n, bytes)
		}
		if per := float64(bytes) / float64(b.st.state.trees.records); per > 16 {
			t.Errorf("after %s an exception takes %.1f bytes", what, per)
		}
	}
	for round := range 8 {
		for range 6_000 {
			b.grow(snapshot.Request{Op: snapshot.Write, Chunk: rng.Int64N(b.st.geo.chunks()), N: 1})
		}
		if round == 5 {
			for range 8 {
				b.compactStep(4096)
			}
			b.refresh()
			look("a checkpoint that is given up")
		}
		b.must(b.st.compact(t.Context()))
		look("a checkpoint")
	}
	b.st = b.load()
	look("loading")
}

// TestCacheRaces looks chunks up while checkpoints replace the trees, in so
// little memory that nodes leave it all the time.
func TestCacheRaces(t *testing.T) {
	t.Parallel()
	b := newBench(t, 512<<20, 256<<20, map[string]string{"memory": "1M"})
	b.cfg.Device = b.dev.Device // nobody counts what readers read
	b.st = b.load()
	b.create()
	rng := rand.New(rand.NewPCG(3, 2))
	fill := func() {
		for range 5000 {
			b.grow(snapshot.Request{Op: snapshot.Write, Chunk: rng.Int64N(b.st.geo.chunks()), N: 1})
		}
	}
	for range 4 {
		fill()
		b.must(b.st.compact(t.Context()))
	}
	var all sync.WaitGroup
	stop := make(chan struct{})
	for lane := range uint64(3) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(lane, 9))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := b.st.Map(t.Context(), snapshot.Origin, rng.Int64N(b.st.geo.chunks()), 1, 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 6 {
		fill()
		b.must(b.st.compact(t.Context()))
	}
	close(stop)
	all.Wait()
	// Who went through a node that had just left the memory may have brought
	// one that no tree finds again; it leaves as well.
	n, _ := b.cached()
	c, bytes := b.st.chunks.cache, int64(0)
	for i, x := range c.nodes {
		if bytes += x.bytes(); x.place != i+1 || x.link.p.Load() != x || x.up != nil && x.up.near[x.index].Load() != x {
			t.Errorf("node %d of the cache has place %d", i, x.place)
		}
	}
	if len(c.nodes) < n || c.bytes != bytes || bytes > c.limit {
		t.Errorf("the cache has %d nodes of %d bytes, counted as %d, the trees have %d, expected at most %d", len(c.nodes), bytes, c.bytes, n, c.limit)
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Error(all)
	}
}
