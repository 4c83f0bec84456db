package kinds_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/source"
)

// The benchmarks have files in TMPDIR: a folder in memory tells what the engine
// costs, one on a disk what the devices do.
const (
	benchSize  = 1 << 30
	benchChunk = 4096
	benchDepth = 32
)

// counted counts what a device writes. A flush takes flushTime longer.
type counted struct {
	block.Device
	writes, bytes, flushes atomic.Int64
	flushTime              time.Duration
}

func (c *counted) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := c.Device.WriteAt(ctx, p, off, flags)
	if err == nil {
		c.writes.Add(1)
		c.bytes.Add(int64(len(p)))
	}
	return err
}

func (c *counted) Flush(ctx context.Context) error {
	c.flushes.Add(1)
	if c.flushTime > 0 {
		time.Sleep(c.flushTime)
	}
	return c.Device.Flush(ctx)
}

func benchFile(b *testing.B, name string, size int64) block.Device {
	b.Helper()
	d, err := source.File(b.Context(), source.FileOptions{Path: filepath.Join(b.TempDir(), name), Create: true, Size: size})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// filled is a file all of whose blocks are there.
func filled(b *testing.B) block.Device {
	b.Helper()
	d := benchFile(b, "origin", benchSize)
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i)
	}
	for off := int64(0); off < benchSize; off += int64(len(p)) {
		if err := d.WriteAt(b.Context(), p, off, 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	return d
}

// A benchDisk is a disk with a new snapshot.
type benchDisk struct {
	origin block.Device
	store  *counted
	order  []int
	next   int
}

func newBenchDisk(b *testing.B, kind string, policy snapshot.Policy) *benchDisk {
	b.Helper()
	d := &benchDisk{store: &counted{Device: benchFile(b, "store", 4*benchSize)}}
	s, err := snapshot.New(filled(b), d.store, snapshot.Options{Kind: kind, Policy: policy, Format: snapshot.IfBlank})
	if err != nil {
		b.Fatal(err)
	}
	d.origin = s.Origin()
	b.Cleanup(func() { d.origin.Close() })
	if err := errors.Join(s.Resume(b.Context()), s.Create(b.Context(), "a", snapshot.CreateOptions{})); err != nil {
		b.Fatal(err)
	}
	d.order = rand.New(rand.NewPCG(1, 1)).Perm(benchSize / benchChunk)
	d.store.writes.Store(0)
	d.store.bytes.Store(0)
	d.store.flushes.Store(0)
	return d
}

func (d *benchDisk) off() int64 {
	d.next++
	return int64(d.order[(d.next-1)%len(d.order)]) * benchChunk
}

func (d *benchDisk) report(b *testing.B) {
	n := float64(b.N)
	b.ReportMetric(float64(d.store.writes.Load())/n, "writes/op")
	b.ReportMetric(float64(d.store.flushes.Load())/n, "flushes/op")
	b.ReportMetric(float64(d.store.bytes.Load())/n/benchChunk, "amplification")
}

// measure is about b.N writes to the disk, after each of which after is called.
func (d *benchDisk) measure(b *testing.B, after func(i int) error) {
	p, waited := make([]byte, benchChunk), 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		err := put(b.Context(), d.origin, p, d.off(), &waited)
		if err == nil {
			err = after(i)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(waited)/float64(b.N), "waited/op")
}

// put writes as the server does: at once if that is possible.
func put(ctx context.Context, d block.Device, p []byte, off int64, waited *int) error {
	err := d.WriteAt(ctx, p, off, block.NoWait)
	if errors.Is(err, block.ErrWouldBlock) {
		*waited++
		err = d.WriteAt(ctx, p, off, 0)
	}
	return err
}

var policies = []snapshot.Policy{snapshot.Redirect, snapshot.Staged}

// BenchmarkFirstWrite is one writer whose writes are the first ones after a
// snapshot. Use -benchtime 100000x: there are 262144 of them.
func BenchmarkFirstWrite(b *testing.B) {
	for _, policy := range policies {
		b.Run(policy.String(), func(b *testing.B) {
			d := newBenchDisk(b, "ranged", policy)
			d.measure(b, func(int) error { return nil })
			d.report(b)
		})
	}
}

// BenchmarkFlushedWrite flushes after every 32 first writes.
func BenchmarkFlushedWrite(b *testing.B) {
	for _, policy := range policies {
		b.Run(policy.String(), func(b *testing.B) {
			d := newBenchDisk(b, "ranged", policy)
			d.measure(b, func(i int) error {
				if i%benchDepth < benchDepth-1 {
					return nil
				}
				return d.origin.Flush(b.Context())
			})
			d.report(b)
		})
	}
}

// BenchmarkCopiedWrite has 32 writers, whose writes copy what was there.
func BenchmarkCopiedWrite(b *testing.B) {
	for _, kind := range []string{"ranged", "bitmap"} {
		b.Run(kind, func(b *testing.B) {
			d := newBenchDisk(b, kind, snapshot.CopyOut)
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			var next atomic.Int64
			for range benchDepth {
				all.Go(func() {
					p := make([]byte, benchChunk)
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						if err := d.origin.WriteAt(b.Context(), p, int64(d.order[i])*benchChunk, 0); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			d.report(b)
		})
	}
}

// BenchmarkLaterWrite writes again what was written since the snapshot and is
// durable.
func BenchmarkLaterWrite(b *testing.B) {
	for _, policy := range []snapshot.Policy{snapshot.Redirect, snapshot.CopyOut} {
		b.Run(policy.String(), func(b *testing.B) {
			d := newBenchDisk(b, "ranged", policy)
			p := make([]byte, benchChunk)
			d.order = d.order[:8192]
			for range d.order {
				if err := d.origin.WriteAt(b.Context(), p, d.off(), 0); err != nil {
					b.Fatal(err)
				}
			}
			for range 2 {
				if err := errors.Join(d.origin.Flush(b.Context()), d.origin.WriteAt(b.Context(), p, d.off(), 0)); err != nil {
					b.Fatal(err)
				}
			}
			d.measure(b, func(int) error { return nil })
		})
	}
}

// BenchmarkBareWrite is what the same data cost without the engine: in place,
// and one behind the other into a file that has no blocks yet.
func BenchmarkBareWrite(b *testing.B) {
	order := rand.New(rand.NewPCG(1, 1)).Perm(benchSize / benchChunk)
	for _, fresh := range []bool{false, true} {
		name := "inplace"
		if fresh {
			name = "append"
		}
		b.Run(name, func(b *testing.B) {
			var d block.Device
			if fresh {
				d = benchFile(b, "store", 4*benchSize)
			} else {
				d = filled(b)
			}
			defer d.Close()
			p, waited := make([]byte, benchChunk), 0
			b.ResetTimer()
			for i := range b.N {
				off := int64(i%len(order)) * benchChunk
				if !fresh {
					off = int64(order[i%len(order)]) * benchChunk
				}
				if err := put(b.Context(), d, p, off, &waited); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(waited)/float64(b.N), "waited/op")
		})
	}
}
