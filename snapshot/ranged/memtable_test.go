package ranged

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// TestMemtable compares one with a map.
func TestMemtable(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	m, want := newMemtable(), map[int64][]entry{}
	for i := range 10_000 {
		c := rng.Int64N(5000) << rng.IntN(30)
		var list []entry
		for from := snapshot.ID(1); rng.IntN(3) > 0 && from < 1000; from += 2 {
			list = append(list, entry{from, from + snapshot.ID(rng.IntN(2)), snapshot.OnStore, rng.Int64N(1 << 46), uint64(i+1) * uint64(rng.IntN(2))})
		}
		if rng.IntN(20) == 0 {
			list = append(list, entry{5000, head, snapshot.Hole, 0, 1 << 30})
		}
		m.set(c, list)
		want[c] = list
	}
	chunks, entries := slices.Sorted(maps.Keys(want)), 0
	i := 0
	for c, list := range m.all() {
		if c != chunks[i] || !slices.Equal(list, want[c]) {
			t.Fatalf("chunk %d has %v, expected %d with %v", c, list, chunks[i], want[chunks[i]])
		}
		entries += len(list)
		i++
	}
	if i != len(chunks) || m.chunks != int64(i) || m.entries != int64(entries) {
		t.Errorf("%d chunks with %d entries, counted as %d and %d, expected %d", i, entries, m.chunks, m.entries, len(chunks))
	}
	for i, c := range chunks {
		if list, ok := m.get(c, nil); !ok || !slices.Equal(list, want[c]) {
			t.Errorf("chunk %d has %v", c, list)
		}
		if _, ok := want[c+1]; !ok && i+1 < len(chunks) {
			if got := m.clear(c+1, 1<<40); got != min(chunks[i+1]-c-1, 1<<40) {
				t.Errorf("%d chunks from %d on are clear", got, c+1)
			}
		}
	}
	for i, x := 0, (cursor{m: m}); ; i++ {
		k, ok := x.peek()
		if !ok {
			if i != len(chunks) {
				t.Errorf("a cursor finds %d chunks", i)
			}
			break
		}
		if o := x.next(); o.k != k || int64(k.a) != chunks[i] || !slices.Equal(o.list, want[chunks[i]]) {
			t.Fatalf("a cursor finds %v at %v", o, k)
		}
	}
}

// BenchmarkMemtable fills memtables at random and in order, and says what they
// take and what they count.
func BenchmarkMemtable(b *testing.B) {
	const n = 500_000
	for name, next := range map[string]func(r *rand.Rand, i int64) int64{
		"random":    func(r *rand.Rand, _ int64) int64 { return r.Int64N(1 << 28) },
		"ascending": func(_ *rand.Rand, i int64) int64 { return 2 * i },
	} {
		b.Run(name, func(b *testing.B) {
			var taken, counted int64
			for b.Loop() {
				rng := rand.New(rand.NewPCG(1, 1))
				before := heapInUse()
				m := newMemtable()
				for i := range int64(n) {
					m.set(next(rng, i), []entry{{2, head, snapshot.OnStore, i, uint64(i/32) + 1}})
				}
				taken, counted = heapInUse()-before, m.bytes
				runtime.KeepAlive(m)
			}
			b.ReportMetric(float64(taken)/n, "B/exception")
			b.ReportMetric(float64(counted)/n, "B-counted/exception")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/exception")
		})
	}
}

// heapInUse is the memory in use by Go.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
