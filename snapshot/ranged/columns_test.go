package ranged

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/strata-storage/strata/snapshot"
)

func anyNumber(rng *rand.Rand) uint64 { return rng.Uint64N(max48) >> rng.IntN(49) }

// anySheet makes a sheet of any kind, with its keys.
func anySheet(rng *rand.Rand) (*sheet, []key) {
	g := fuzzGeometry()
	kind, level := mapNode, rng.IntN(2)
	if rng.IntN(2) == 0 {
		kind = eraNode
	}
	n := newSheet(&g, kind, level, &link{addr: g.base, gen: 1})
	keys := make([]key, 1+rng.IntN(nodeSpace/n.size))
	few, far := 1+rng.Uint64N(40), anyNumber(rng)
	for i := range keys {
		if keys[i] = (key{anyNumber(rng), anyNumber(rng)}); rng.IntN(3) > 0 {
			keys[i].a = min(far+rng.Uint64N(few), max48)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(cmp.Compare(a.a, b.a), cmp.Compare(a.b, b.b)) })
	keys = slices.Compact(keys)
	for _, k := range keys {
		r := n.add()
		for i := range r {
			r[i] = byte(rng.Uint32())
		}
		if kind == mapNode && level == 0 {
			e := entry{snapshot.ID(k.b), snapshot.ID(anyNumber(rng)), snapshot.OnStore, int64(anyNumber(rng) >> 2), 0}
			putEntry(r, int64(k.a), rng.Int64N(maxGroup), &e)
		} else {
			put48(r, k.a)
			put48(r[6:], k.b)
		}
	}
	return n, keys
}

// TestColumns: a node has what its sheet has, and finds keys in it, however
// unevenly they are spread.
func TestColumns(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 6))
	for range 300 {
		n, keys := anySheet(rng)
		x := n.node()
		for i, k := range keys {
			if x.keyAt(i) != k {
				t.Fatalf("record %d has key %v, expected %v", i, x.keyAt(i), k)
			}
			if r := n.rec(i); n.level == 0 && n.kind == mapNode {
				e := entry{snapshot.ID(get48(r[8:])), snapshot.ID(get48(r[14:])), snapshot.OnStore, int64(get48(r[20:]) >> 2), 0}
				if x.entryAt(i) != e {
					t.Fatalf("record %d has %v, expected %v", i, x.entryAt(i), e)
				}
			}
			if n.level == 0 {
				c, run := x.run(i)
				if wc, wrun := n.run(i); c != wc || run != wrun {
					t.Fatalf("record %d has %d chunks from %d on, expected %d from %d on", i, run, c, wrun, wc)
				}
			}
			for _, probe := range []key{k, {k.a, max48}, {k.a, 0}, {k.a, k.b + 1}, {k.a + 1, 0}, {k.a - min(k.a, 1), max48}, {anyNumber(rng), anyNumber(rng)}} {
				want := len(keys) - 1
				for want >= 0 && probe.less(keys[want]) {
					want--
				}
				if got := x.search(probe); got != want {
					t.Fatalf("%v is behind record %d of %v, expected %d", probe, got, keys, want)
				}
			}
		}
	}
}

// TestCompact: an exception takes few bytes of the memory, by what the limits
// count.
func TestCompact(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1<<30, 4<<30, nil)
	rng := rand.New(rand.NewPCG(7, 3))
	b.create()
	for range 60_000 {
		b.grow(snapshot.Request{Op: snapshot.Write, Chunk: rng.Int64N(b.st.geo.chunks()), N: 1})
	}
	if per := float64(b.st.mem.bytes) / float64(b.st.mem.entries); per > 40 {
		t.Errorf("%.1f bytes for each that has changed", per)
	}
	b.must(b.st.compact(t.Context()))
	if per := float64(b.st.chunks.cache.bytes) / float64(b.st.state.trees.records); per > 16 {
		t.Errorf("%.1f bytes for each of the map", per)
	}
}

// TestLookupAllocations: a node is one piece of memory, in which what a lookup needs
// first comes first, and chunks that are spread evenly are found without reading
// any of them.
func TestLookupAllocations(t *testing.T) {
	const line = 64
	if at := unsafe.Offsetof(node{}.data); at > 2*line {
		t.Errorf("a lookup needs %d bytes of a node, expected at most 2 lines of a processor's cache", at)
	}
	for _, c := range []struct {
		name  string
		place func(rng *rand.Rand, i int) int64
		gap   func(rng *rand.Rand) int64
		most  int // bytes for each record
	}{
		{"even holes", nil, func(*rand.Rand) int64 { return 2 }, 0},
		{"random holes", nil, func(rng *rand.Rand) int64 { return 1 + rng.Int64N(3) }, 1},
		{"random places", func(rng *rand.Rand, i int) int64 { return rng.Int64N(1 << 23) }, func(rng *rand.Rand) int64 { return 1 + rng.Int64N(3) }, 5},
	} {
		g, rng := fuzzGeometry(), rand.New(rand.NewPCG(1, 1))
		s := newSheet(&g, mapNode, 0, &link{addr: g.base, gen: 1})
		for i, at := 0, int64(0); i < nodeSpace/mapRecord; i++ {
			e := entry{from: 2, to: head, where: snapshot.Hole}
			if c.place != nil {
				e.where, e.slot = snapshot.OnStore, c.place(rng, i)
			}
			at += c.gap(rng)
			putEntry(s.add(), at, 1, &e)
		}
		var n *node
		if got := testing.AllocsPerRun(10, func() { n = s.node() }); got > 1 {
			t.Errorf("%s: a node is %.0f pieces of memory", c.name, got)
		}
		width := 0
		for i := range n.cols {
			width += int(n.cols[i].width)
		}
		if width != c.most {
			t.Errorf("%s: a record has %d bytes, expected %d", c.name, width, c.most)
		}
	}
}
