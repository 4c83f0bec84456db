package disk

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/cluster/family"
)

// benchLab is a disk of some size, with the caches that are usual.
func benchLab(b *testing.B, size int64) *lab {
	l := &lab{t: b, trees: newForest(), fs: vfs.NewMem(), bytes: make([]byte, size)}
	l.adjust = func(c *Config) { c.Cache, c.MetaCache = 0, 0 }
	if _, err := Format(b.Context(), l.config(), false); err != nil {
		b.Fatal(err)
	}
	l.trees.add(1, 0)
	l.open()
	return l
}

const (
	benchObject  = 4 << 20
	benchObjects = 32
)

// filled writes all objects.
func (l *lab) filled() {
	p := make([]byte, benchObject)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	for i := range uint64(benchObjects) {
		l.ok(l.Write(l.t.Context(), at(i, 1), p, 0))
	}
	l.ok(l.Flush(l.t.Context()))
}

func benchSlab() int64 { return minSlab + 2*benchObjects*benchObject }

func BenchmarkOverwrite4K(b *testing.B) {
	l := benchLab(b, benchSlab())
	l.filled()
	p := make([]byte, BlockSize)
	rng := rand.New(rand.NewPCG(1, 1))
	b.SetBytes(BlockSize)
	b.ReportAllocs()
	for b.Loop() {
		l.ok(l.Write(b.Context(), at(rng.Uint64N(benchObjects), 1), p, rng.Int64N(benchObject)&^(BlockSize-1)))
	}
}

// The first write of each block after a snapshot, a new one as soon as each
// eighth block is written.
func BenchmarkFirstWrite4K(b *testing.B) {
	l := benchLab(b, benchSlab()+1<<30)
	l.filled()
	p := make([]byte, BlockSize)
	const blocks = benchObjects * benchObject / BlockSize
	version, perm, n := uint64(1), []int(nil), blocks
	rng := rand.New(rand.NewPCG(1, 1))
	b.SetBytes(BlockSize)
	b.ReportAllocs()
	for b.Loop() {
		if n >= blocks/8 {
			b.StopTimer()
			if version > 1 {
				// The one before goes, so that there is room for the next.
				for i := range uint64(benchObjects) {
					l.ok(l.Zero(b.Context(), at(i, version), 0, benchObject))
				}
			}
			l.ok(l.Flush(b.Context()))
			version, perm, n = l.trees.add(1, 1), rng.Perm(blocks), 0
			b.StartTimer()
		}
		off := int64(perm[n]) * BlockSize
		n++
		l.ok(l.Write(b.Context(), at(uint64(off/benchObject), version), p, off%benchObject))
	}
}

func BenchmarkRead4K(b *testing.B) {
	for _, cached := range []bool{true, false} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			l := benchLab(b, benchSlab())
			l.filled()
			if !cached {
				l.adjust = func(c *Config) { c.Cache, c.MetaCache = 64<<10, 0 }
				l.reopen()
			}
			p := make([]byte, BlockSize)
			rng := rand.New(rand.NewPCG(1, 1))
			b.SetBytes(BlockSize)
			b.ReportAllocs()
			for b.Loop() {
				l.ok(l.Read(b.Context(), at(rng.Uint64N(benchObjects), 1), p, rng.Int64N(benchObject)&^(BlockSize-1)))
			}
		})
	}
}

func BenchmarkObject(b *testing.B) {
	p := make([]byte, benchObject)
	for name, do := range map[string]func(*lab, uint64) error{
		"overwrite": func(l *lab, i uint64) error { return l.Write(l.t.Context(), at(i, 1), p, 0) },
		"read":      func(l *lab, i uint64) error { return l.Read(l.t.Context(), at(i, 1), p, 0) },
		"write and flush": func(l *lab, i uint64) error {
			l.ok(l.Write(l.t.Context(), at(i, 1), p, 0))
			return l.Flush(l.t.Context())
		},
		"zero and write": func(l *lab, i uint64) error {
			l.ok(l.Zero(l.t.Context(), at(i, 1), 0, benchObject))
			return l.Write(l.t.Context(), at(i, 1), p, 0)
		},
	} {
		b.Run(name, func(b *testing.B) {
			l := benchLab(b, benchSlab())
			l.filled()
			i := uint64(0)
			b.SetBytes(benchObject)
			b.ReportAllocs()
			for b.Loop() {
				i++
				l.ok(do(l, i%benchObjects))
			}
		})
	}
}

// 4 KiB are written and flushed, by one and by sixteen at once.
func BenchmarkWriteFlush4K(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := benchLab(b, benchSlab())
			l.filled()
			b.SetParallelism(writers)
			b.SetBytes(BlockSize)
			var seed atomic.Uint64
			b.ReportAllocs()
			work := func(next func() bool) {
				p := make([]byte, BlockSize)
				rng := rand.New(rand.NewPCG(seed.Add(1), 1))
				for next() {
					l.ok(l.Write(b.Context(), at(rng.Uint64N(benchObjects), 1), p, rng.Int64N(benchObject)&^(BlockSize-1)))
					l.ok(l.Flush(b.Context()))
				}
			}
			before := l.Stats().Flushes
			if writers == 1 {
				work(b.Loop)
			} else {
				b.RunParallel(func(pb *testing.PB) { work(pb.Next) })
			}
			b.ReportMetric(float64(l.Stats().Flushes-before)/float64(b.N), "barriers/op")
		})
	}
}

// A block that only the oldest of many snapshots has is read, while its
// neighbour has been written in each of them.
func BenchmarkReadThroughSnapshots(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		for _, cached := range []bool{true, false} {
			b.Run(fmt.Sprintf("snapshots=%d/cached=%v", n, cached), func(b *testing.B) {
				l := benchLab(b, minSlab+512<<20)
				ctx := b.Context()
				p := make([]byte, BlockSize)
				l.ok(l.Write(ctx, at(0, 1), p, BlockSize))
				l.trees.chain(1, n)
				for v := range uint64(n) {
					// As if it had been written when it was the head.
					fix := Fix{Was: Entry{Version: v + 1}, Kind: Data, Data: p}
					l.ok(second(l.Repair(ctx, Object{1, 0}, 0, []Fix{fix})))
				}
				l.reopen()
				b.ResetTimer()
				for b.Loop() {
					if !cached {
						o := l.cache.get(Object{1, 0})
						o.trim(0)
						l.cache.put(o)
					}
					l.ok(l.Read(ctx, at(0, uint64(n)), p, BlockSize))
				}
			})
		}
	}
}

// chain makes a family of n versions in a row.
func (f *forest) chain(fid uint64, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]family.Version, n)
	for i := range list {
		list[i] = family.Version{ID: uint64(i + 1), Parent: uint64(i)}
	}
	f.change(fid, list)
	f.last[fid] = uint64(n)
}

// Lists of the states of objects, as two disks compare them.
func BenchmarkList(b *testing.B) {
	l := benchLab(b, minSlab+64<<20)
	p := make([]byte, BlockSize)
	const n = 10_000
	for i := range uint64(n) {
		l.ok(l.Write(b.Context(), at(i, 1), p, 0))
	}
	l.ok(l.Flush(b.Context()))
	for b.Loop() {
		k := 0
		for _, err := range l.List(b.Context(), 0, lastHash) {
			l.ok(err)
			k++
		}
		if k != n {
			b.Fatal(k)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/object")
}
