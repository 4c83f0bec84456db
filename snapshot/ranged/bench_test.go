package ranged

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/source"
)

// large is a store with ten million exceptions of one snapshot at random
// chunks, of an origin of 64 GiB. To make it takes a while.
var large = sync.OnceValue(func() *bench {
	dev, err := source.Mem(context.Background(), source.MemOptions{Size: 80 << 30})
	if err != nil {
		panic(err)
	}
	b := &bench{dev: &counter{Device: dev}}
	b.cfg = snapshot.Config{Device: b.dev, OriginSize: 64 << 30, Chunk: 4096, Format: snapshot.Always,
		Args: map[string]string{"memory": "1G"}, Retire: func(f func()) { f() }}
	return b
})

var many = flag.Int64("exceptions", 10_000_000, "how many exceptions the large store has")

func largeBench(tb testing.TB) *bench {
	b := large()
	b.TB = tb
	if b.st != nil {
		return b
	}
	b.st = b.load()
	b.cfg.Format = snapshot.Never
	b.create()
	rng := rand.New(rand.NewPCG(7, 7))
	for b.st.space.all < *many {
		b.fill(rng, 1<<20)
		b.must(b.st.compact(b.Context()))
	}
	return b
}

// fill gives up to n random chunks of snapshot 1 a place, as detachments do,
// without the log.
func (b *bench) fill(rng *rand.Rand, n int) {
	st := b.st
	st.mu.Lock()
	defer st.mu.Unlock()
	for range n {
		c := rng.Int64N(st.geo.chunks())
		if _, ok := st.mem.get(c, nil); ok {
			continue
		}
		if g, err := st.chunks.find(b.Context(), c, nil, 0); err != nil || len(g.list) > 0 {
			continue
		}
		slot, _, err := st.space.alloc(1, 0)
		b.must(err)
		b.must(st.space.claim(slot))
		st.mem.set(c, []entry{{1, 1, snapshot.OnStore, slot, 0}})
	}
}

// BenchmarkLookup looks up random chunks, of which some have exceptions.
func BenchmarkLookup(b *testing.B) {
	l := largeBench(b)
	rng := rand.New(rand.NewPCG(8, 8))
	chunks := l.st.geo.chunks()
	for c := int64(0); c < chunks; c += 100 {
		l.place(1, c)
	}
	for b.Loop() {
		if _, err := l.st.Map(b.Context(), 1, rng.Int64N(chunks), 1, block.NoWait); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.st.chunks.cache.bytes)/float64(l.st.state.trees.records), "B/exception")
}

// BenchmarkOpen opens after a crash, with a log of 64 MiB or as much as the
// memory allows by default.
func BenchmarkOpen(b *testing.B) {
	l := largeBench(b)
	rng := rand.New(rand.NewPCG(9, 9))
	l.cfg.Args = map[string]string{"memory": "64M"}
	l.st = l.load()
	for !l.st.due() {
		for range 32 {
			l.grow(snapshot.Request{Op: snapshot.Write, Chunk: rng.Int64N(l.st.geo.chunks()), N: 1})
		}
		l.commit()
	}
	// The last is verified.
	l.must(l.st.Put(b.Context(), "a", nil))
	l.commit()
	log := l.st.blocks * blockSize
	for b.Loop() {
		if st := l.load(); st.seq != l.st.seq {
			b.Fatal("commits are missing")
		}
	}
	b.ReportMetric(float64(log)/(1<<20), "MiB-log")
	l.must(l.st.compact(b.Context()))
}

// BenchmarkManySnapshots takes a snapshot, and deletes all but some in one batch,
// where there are many.
func BenchmarkManySnapshots(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000, 100_000} {
		l := newBench(b, 64<<20, 1<<20, nil)
		for range n {
			l.create()
		}
		b.Run(fmt.Sprintf("create/%d", n), func(b *testing.B) {
			for b.Loop() {
				l.create()
			}
		})
		b.Run(fmt.Sprintf("delete/%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				for len(l.st.live) <= n {
					l.create()
				}
				var ids []snapshot.ID
				for i, id := range l.st.live {
					if i%10 > 0 {
						ids = append(ids, id)
					}
				}
				b.StartTimer()
				l.must(l.st.Delete(b.Context(), ids))
			}
		})
	}
}

// BenchmarkFlush is a flush after 32 first writes.
func BenchmarkFlush(b *testing.B) {
	l := newBench(b, 4<<30, 8<<30, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	l.create()
	l.commit()
	l.dev.written, l.dev.flushes = 0, 0
	n := int64(0)
	for b.Loop() {
		for range 32 {
			l.write(snapshot.Origin, rng.Int64N(l.st.geo.chunks()), 1)
		}
		l.commit()
		n++
	}
	b.ReportMetric(float64(l.dev.flushes)/float64(n), "barriers/op")
	b.ReportMetric(float64(l.dev.written)/float64(n*32*4096), "amplification")
}

// BenchmarkDelete deletes a snapshot with an era of a million out of a map of
// eleven.
func BenchmarkDelete(b *testing.B) {
	l := largeBench(b)
	l.cfg.Args = nil
	l.st = l.load()
	rng := rand.New(rand.NewPCG(10, 10))
	for b.Loop() {
		b.StopTimer()
		id := l.create()
		for n := 0; n < 1_000_000; n += 1024 {
			c := rng.Int64N(l.st.geo.chunks() - 1024)
			l.grow(snapshot.Request{Op: snapshot.Write, View: id, Chunk: c, N: 1024})
			for ; l.st.due(); runtime.Gosched() {
				l.must(l.st.compact(b.Context()))
			}
		}
		l.commit()
		l.must(l.st.compact(b.Context()))
		before, began := l.st.visits, time.Now()
		b.StartTimer()
		l.must(l.st.Delete(b.Context(), []snapshot.ID{id}))
		longest := time.Duration(0)
		for more := true; more; {
			at := time.Now()
			p, err := l.st.Step(b.Context(), 4096)
			l.must(err)
			more, longest = p.More, max(longest, time.Since(at))
		}
		l.commit()
		n := l.st.visits - before
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "exceptions/s")
		b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-step")
	}
}
