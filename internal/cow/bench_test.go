package cow

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/strata-storage/strata/block"
)

// free is a device of a tebibyte whose reads and writes cost nothing. What
// was stored below keep is kept.
type free struct {
	block.Device
	kept []byte
}

func (f free) Info() block.Info { return block.Info{Size: 2 << 40, NoWait: true} }

func (f free) ReadAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	if off < int64(len(f.kept)) {
		copy(p, f.kept[off:])
	}
	return nil
}

func (f free) WriteAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	if off < int64(len(f.kept)) {
		copy(f.kept[off:], p)
	}
	return nil
}

func (f free) Zero(context.Context, int64, int64, block.Flags) error { return nil }
func (f free) Flush(context.Context) error                           { return nil }
func (f free) Close() error                                          { return nil }

type freeBase struct{ free }

func (f freeBase) Info() block.Info { return block.Info{Size: 1 << 40, NoWait: true} }

// What the layer adds to a request of 4 KiB at a random place of a tebibyte.
func BenchmarkRequest(b *testing.B) {
	ctx := context.Background()
	base := freeBase{}
	l, err := newLayout(1<<40, 4096)
	if err != nil {
		b.Fatal(err)
	}
	diff := free{kept: make([]byte, l.data)}
	if err := Format(ctx, base, diff, 4096); err != nil {
		b.Fatal(err)
	}
	d, err := Open(ctx, base, diff, false)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	offsets := make([]int64, 1<<16)
	for i := range offsets {
		offsets[i] = rng.Int64N(1<<28) << 12
	}
	run := func(name string, f func(off int64) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := f(offsets[i%len(offsets)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("read of an absent chunk", func(off int64) error { return d.ReadAt(ctx, p, off, block.NoWait) })
	for _, off := range offsets {
		if err := d.WriteAt(ctx, p, off, 0); err != nil {
			b.Fatal(err)
		}
	}
	run("read", func(off int64) error { return d.ReadAt(ctx, p, off, block.NoWait) })
	run("write", func(off int64) error { return d.WriteAt(ctx, p, off, block.NoWait) })
	b.Run("read by two", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			q := make([]byte, 4096)
			for i := 0; pb.Next(); i++ {
				_ = d.ReadAt(ctx, q, offsets[i%len(offsets)], block.NoWait)
			}
		})
	})
}
