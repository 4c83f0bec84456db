package disk

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
)

// fileLab is a disk in a directory.
func fileLab(t testing.TB, size int64) *lab {
	dir := t.TempDir()
	l := &lab{t: t, trees: newForest(), bytes: make([]byte, 0)}
	f, err := os.Create(filepath.Join(dir, "slab"))
	l.ok(err)
	l.ok(f.Truncate(size))
	l.ok(f.Close())
	l.wrapSlab = func(block.Device) block.Device {
		f, err := os.OpenFile(filepath.Join(dir, "slab"), os.O_RDWR, 0)
		l.ok(err)
		dev, err := block.FromFile(f)
		l.ok(err)
		return dev
	}
	l.adjust = func(c *Config) {
		c.Dir, c.FS, c.Cache, c.MetaCache, c.MetaReserve = filepath.Join(dir, "meta"), nil, 0, 0, 1
	}
	if _, err := Format(t.Context(), l.config(), false); err != nil {
		t.Fatal(err)
	}
	l.trees.add(1, 0)
	l.open()
	return l
}

// A disk is a file and a directory.
func TestRealFiles(t *testing.T) {
	t.Parallel()
	l := fileLab(t, labSize)
	l.ok(l.Write(t.Context(), at(0, 1), fill(1, 20), 100))
	l.ok(l.Flush(t.Context()))
	other := *l
	if err := other.tryOpen(); err == nil {
		t.Error("it was opened twice")
	}
	l.reopen()
	l.want(at(0, 1), 100, fill(1, 20))
	l.checked(true)
	l.shut()
	l.checked(true)
}

// What is changed and not flushed is bounded, and so is what is known of places.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t, minSlab+16<<20)
	l.trees.add(1, 0)
	const limit = 2 * pieceBlocks
	l.adjust = func(c *Config) { c.MaxUnflushed = limit }
	l.open()
	ctx := t.Context()
	for i := range int64(1000) {
		l.ok(l.Write(ctx, at(uint64(i%7), 1), fill(1, 1), i*pieceSize))
		if n := l.Stats().Unflushed; n > limit+1 {
			t.Fatalf("%d changes in memory", n)
		}
	}
	l.ok(l.Zero(ctx, at(3, 1), 0, MaxObject))
	l.ok(l.Flush(ctx))
	p := make([]byte, BlockSize)
	for i := range int64(1000) {
		l.ok(l.Read(ctx, at(uint64(i%7), 1), p, i*pieceSize))
	}
	l.checked(false)
}

// 4 KiB are written to files, at random and without flushes, and flushed.
func BenchmarkFiles4K(b *testing.B) {
	const objects = 16
	for name, writers := range map[string]int{"write": 0, "write and flush by 1": 1, "write and flush by 16": 16} {
		b.Run(name, func(b *testing.B) {
			l := fileLab(b, minSlab+2*objects*benchObject)
			for i := range uint64(objects) {
				l.ok(l.Write(b.Context(), at(i, 1), make([]byte, benchObject), 0))
			}
			l.ok(l.Flush(b.Context()))
			var seed atomic.Uint64
			b.SetBytes(BlockSize)
			b.SetParallelism(max(1, writers/2))
			before := l.Stats().Flushes
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, BlockSize)
				rng := rand.New(rand.NewPCG(seed.Add(1), 1))
				for pb.Next() {
					l.ok(l.Write(b.Context(), at(rng.Uint64N(objects), 1), p, rng.Int64N(benchObject)&^(BlockSize-1)))
					if writers > 0 {
						l.ok(l.Flush(b.Context()))
					}
				}
			})
			b.ReportMetric(float64(l.Stats().Flushes-before)/float64(b.N), "barriers/op")
		})
	}
}
