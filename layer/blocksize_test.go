package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/race"
)

func newBlockSize(t testing.TB, dev block.Device, o BlockSizeOptions) block.Device {
	t.Helper()
	return must[block.Device](t)(BlockSize(dev, o))
}

func TestBlockSizeRandom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		unit, maximum int
		o             BlockSizeOptions
		size          int
	}{
		{1, 0, BlockSizeOptions{}, 1000},
		{1, 100, BlockSizeOptions{}, 1000},
		{512, 0, BlockSizeOptions{}, 512},
		{512, 0, BlockSizeOptions{}, 20 * 512},
		{512, 512, BlockSizeOptions{}, 20 * 512},
		{4096, 3 * 4096, BlockSizeOptions{Min: 512}, 20 * 4096},
		{4096, 0, BlockSizeOptions{Max: 4096}, 20 * 4096},
		{512, 0, BlockSizeOptions{Min: 4096, Max: 1024}, 20 * 4096},
		{64 << 10, 0, BlockSizeOptions{}, 3 * 64 << 10},
	} {
		t.Run(fmt.Sprint(tt.unit, tt.maximum, tt.o.Min, tt.o.Max), func(t *testing.T) {
			t.Parallel()
			under := newShaped(tt.size, block.Info{MinBlock: tt.unit, MaxBlock: tt.maximum})
			under.before = func(op Op, _, n int64, _ block.Flags) error {
				if most := tt.o.Max; most > 0 && (op == OpRead || op == OpWrite) && n > int64(most) {
					t.Errorf("%v of %d bytes, max is %d", op, n, most)
				}
				return nil
			}
			dev := newBlockSize(t, under, tt.o)
			if info := dev.Info(); info.MinBlock != max(tt.o.Min, 1) || info.MaxBlock != 0 {
				t.Errorf("info %+v", info)
			}
			want := bytes.Clone(under.bytes)
			randomly(t, dev, want, 500, tt.size)
			if !bytes.Equal(under.bytes, want) {
				t.Error("the device does not hold what was written")
			}
		})
	}
}

func TestBlockSizeConformance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		info block.Info
		o    BlockSizeOptions
	}{
		"sectors":   {block.Info{MinBlock: 512, NoWait: true}, BlockSizeOptions{}},
		"pages":     {block.Info{MinBlock: 4096, MaxBlock: 12288}, BlockSizeOptions{Min: 512}},
		"large":     {block.Info{MinBlock: 16 << 10}, BlockSizeOptions{Max: 16 << 10}},
		"raised":    {block.Info{NoWait: true}, BlockSizeOptions{Min: 4096, Max: 8000}},
		"read-only": {block.Info{ReadOnly: true, MinBlock: 512}, BlockSizeOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device { return newBlockSize(t, disks(tt.info, 144<<10)[0], tt.o) })
		})
	}
}

// Goroutines that each write bytes of their own, many in every block, never
// undo each other's writes; others write and zero whole blocks meanwhile.
func TestBlockSizeShared(t *testing.T) {
	t.Parallel()
	const workers, unit, blocks = 8, 64, 12
	under := newShaped(unit*blocks, block.Info{MinBlock: unit})
	dev := newBlockSize(t, under, BlockSizeOptions{})
	ctx := t.Context()
	var wg sync.WaitGroup
	model := make([][]byte, workers)
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			mine := bytes.Repeat([]byte{0xee}, unit*blocks)
			model[w] = mine
			if w == 0 {
				// This one owns the last two blocks and their neighbours.
				for i := range 500 {
					p := bytes.Repeat([]byte{byte(i)}, 2*unit)
					copy(mine[10*unit:], p)
					if err := dev.WriteAt(ctx, p, 10*unit, 0); err != nil {
						t.Error(err)
					}
				}
				return
			}
			for range 500 {
				// Bytes w, w+workers, ... of the first ten blocks are its own.
				i := rng.IntN(10*unit/workers)*workers + w
				var err error
				if rng.IntN(4) == 0 {
					mine[i] = 0
					err = dev.Zero(ctx, int64(i), 1, 0)
				} else {
					mine[i] = byte(rng.Uint32())
					err = dev.WriteAt(ctx, mine[i:i+1], int64(i), 0)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, got := range under.bytes {
		owner := i % workers
		if i >= 10*unit {
			owner = 0
		}
		if want := model[owner][i]; got != want {
			t.Fatalf("byte %d is %02x, want %02x", i, got, want)
		}
	}
}

// A write of part of a block and one of the whole block take turns, whichever
// comes first; whole blocks do not wait for each other.
func TestBlockSizeTurns(t *testing.T) {
	t.Parallel()
	for _, first := range []int{100, 512} {
		for _, second := range []int{100, 512} {
			synctest.Test(t, func(t *testing.T) {
				under := newShaped(1024, block.Info{MinBlock: 512, NoWait: true})
				gate, begun := make(chan struct{}), 0
				under.before = func(op Op, _, _ int64, _ block.Flags) error {
					if op == OpWrite {
						begun++
						<-gate
					}
					return nil
				}
				dev := newBlockSize(t, under, BlockSizeOptions{})
				var wg sync.WaitGroup
				for _, n := range []int{first, second} {
					wg.Go(func() {
						if err := dev.WriteAt(t.Context(), make([]byte, n), 0, 0); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				want := 1
				if first == 512 && second == 512 {
					want = 2
				} else if err := dev.WriteAt(t.Context(), make([]byte, second), 0, block.NoWait); err != block.ErrWouldBlock {
					t.Errorf("%d bytes after %d, not waiting: %v", second, first, err)
				}
				if begun != want {
					t.Errorf("%d bytes after %d: %d writes under way, want %d", second, first, begun, want)
				}
				close(gate)
				wg.Wait()
			})
		}
	}
}

// A device that does not know NoWait may make a write wait that came with it.
func TestBlockSizeIgnoresNoWait(t *testing.T) {
	t.Parallel()
	dev := newBlockSize(t, newShaped(1024, block.Info{MinBlock: 512}), BlockSizeOptions{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 200 {
				if err := dev.WriteAt(t.Context(), []byte{1}, int64(i), block.NoWait); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The flags that a request came with, and no others, reach the device.
func TestBlockSizeFlags(t *testing.T) {
	t.Parallel()
	under := newShaped(4096, block.Info{MinBlock: 512, NoWait: true})
	type request struct {
		op    Op
		off   int64
		n     int64
		flags block.Flags
	}
	var got []request
	under.before = func(op Op, off, n int64, flags block.Flags) error {
		got = append(got, request{op, off, n, flags})
		return nil
	}
	dev := newBlockSize(t, under, BlockSizeOptions{})
	ctx := t.Context()
	const fua, noWait = block.FUA, block.NoWait
	for _, tt := range []struct {
		name string
		do   func() error
		want []request
	}{
		{"aligned read", func() error { return dev.ReadAt(ctx, make([]byte, 1024), 512, noWait) }, []request{{OpRead, 512, 1024, noWait}}},
		{"read of part", func() error { return dev.ReadAt(ctx, make([]byte, 10), 600, noWait) }, []request{{OpRead, 512, 512, noWait}}},
		{"read of parts", func() error { return dev.ReadAt(ctx, make([]byte, 600), 500, noWait) },
			[]request{{OpRead, 0, 512, noWait}, {OpRead, 1024, 512, noWait}, {OpRead, 512, 512, noWait}}},
		{"read of nothing", func() error { return dev.ReadAt(ctx, nil, 700, 0) }, []request{{OpRead, 512, 0, 0}}},
		{"aligned write", func() error { return dev.WriteAt(ctx, make([]byte, 512), 512, fua) }, []request{{OpWrite, 512, 512, fua}}},
		{"write of part", func() error { return dev.WriteAt(ctx, make([]byte, 10), 600, fua|noWait) },
			[]request{{OpRead, 512, 512, noWait}, {OpWrite, 512, 512, fua | noWait}}},
		{"write of two parts", func() error { return dev.WriteAt(ctx, make([]byte, 10), 1020, 0) },
			[]request{{OpRead, 512, 1024, 0}, {OpWrite, 512, 1024, 0}}},
		{"write of many", func() error { return dev.WriteAt(ctx, make([]byte, 1024), 500, fua) },
			[]request{{OpRead, 0, 512, 0}, {OpWrite, 0, 512, fua}, {OpWrite, 512, 512, fua}, {OpRead, 1024, 512, 0}, {OpWrite, 1024, 512, fua}}},
		{"write of nothing", func() error { return dev.WriteAt(ctx, nil, 700, fua) }, []request{{OpWrite, 512, 0, fua}}},
		{"zero of part", func() error { return dev.Zero(ctx, 1, 2, fua|block.NoHole) }, []request{{OpRead, 0, 512, 0}, {OpWrite, 0, 512, fua}}},
		{"zero", func() error { return dev.Zero(ctx, 500, 524, fua|block.NoHole) },
			[]request{{OpRead, 0, 512, 0}, {OpWrite, 0, 512, fua}, {OpZero, 512, 512, fua | block.NoHole}}},
		{"fast zero", func() error { return dev.Zero(ctx, 500, 524, block.FastZero) },
			[]request{{OpZero, 512, 512, block.FastZero}, {OpRead, 0, 512, 0}, {OpWrite, 0, 512, 0}}},
		{"trim of part", func() error { return dev.Trim(ctx, 1, 1022, fua) }, []request{{OpTrim, 0, 0, fua}}},
		{"trim", func() error { return dev.Trim(ctx, 1, 2000, fua) }, []request{{OpTrim, 512, 1024, fua}}},
	} {
		got = nil
		if err := tt.do(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got  %v\nwant %v", tt.name, got, tt.want)
		}
	}
}

// A sector is not written in two pieces, whatever the longest request is.
func TestBlockSizeCuts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		unit, most, cut int64
	}{{1, 1000, 512}, {1, 512, 512}, {1, 511, 1}, {512, 1536, 512}, {4096, 12288, 4096}} {
		under := newShaped(1<<16, block.Info{MinBlock: int(tt.unit)})
		under.before = func(op Op, off, n int64, _ block.Flags) error {
			if off%tt.cut != 0 && off != tt.unit || n > tt.most {
				t.Errorf("%+v: %v of %d bytes at %d", tt, op, n, off)
			}
			return nil
		}
		dev := newBlockSize(t, under, BlockSizeOptions{Max: int(tt.most)})
		if err := dev.WriteAt(t.Context(), make([]byte, 1<<15), tt.unit, 0); err != nil {
			t.Error(err)
		}
	}
}

// A zero that must be fast and is not changes nothing.
func TestBlockSizeFastZero(t *testing.T) {
	t.Parallel()
	under := newShaped(4096, block.Info{MinBlock: 512})
	under.before = failing(block.ErrNotSupported, OpZero)
	dev := newBlockSize(t, under, BlockSizeOptions{})
	want := bytes.Clone(under.bytes)
	for _, n := range []int64{10, 2000} {
		if err := dev.Zero(t.Context(), 100, n, block.FastZero); !errors.Is(err, block.ErrNotSupported) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	expect(t, dev, want)
}

func TestBlockSizeExtents(t *testing.T) {
	t.Parallel()
	under := newShaped(4096, block.Info{MinBlock: 512})
	under.extents = alternating(1024)
	dev := newBlockSize(t, under, BlockSizeOptions{})
	got := collect(t, dev, block.Allocation, 1000, 1100)
	want := []block.Extent{{Off: 1000, Len: 24}, {Off: 1024, Len: 1024, Status: block.Hole | block.Zero}, {Off: 2048, Len: 52}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := collect(t, dev, block.Allocation, 700, 0); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// The raised minimum is enforced, and a failure of any request is passed on.
func TestBlockSizeRefuses(t *testing.T) {
	t.Parallel()
	under := newShaped(8192, block.Info{MinBlock: 512})
	dev := newBlockSize(t, under, BlockSizeOptions{Min: 4096})
	ctx := t.Context()
	for i, err := range []error{dev.ReadAt(ctx, make([]byte, 512), 0, 0), dev.WriteAt(ctx, make([]byte, 4096), 512, 0),
		dev.Zero(ctx, 0, 512, 0), dev.Trim(ctx, 512, 4096, 0), firstError(dev.Extents(ctx, block.Allocation, 0, 512))} {
		if !errors.Is(err, block.ErrInvalid) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	dev = newBlockSize(t, under, BlockSizeOptions{Max: 512})
	for _, op := range []Op{OpRead, OpWrite, OpZero} {
		under.before = failing(block.ErrIO, op)
		if err := dev.ReadAt(ctx, make([]byte, 3000), 100, 0); (err != nil) != (op == OpRead) {
			t.Errorf("read with failing %v: %v", op, err)
		}
		if err := dev.WriteAt(ctx, make([]byte, 3000), 100, 0); (err != nil) != (op != OpZero) {
			t.Errorf("write with failing %v: %v", op, err)
		}
		if err := dev.Zero(ctx, 100, 3000, 0); err == nil {
			t.Errorf("zero with failing %v: %v", op, err)
		}
	}
	under.before = nil
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := dev.WriteAt(gone, make([]byte, 3000), 100, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBlockSizeErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		info block.Info
		o    BlockSizeOptions
		want string
	}{
		{block.Info{}, BlockSizeOptions{Min: 3}, "blocksize: min is 3, must be a power of two from 1 to 65536: invalid argument"},
		{block.Info{}, BlockSizeOptions{Min: -1}, "blocksize: min is -1, must be a power of two from 1 to 65536: invalid argument"},
		{block.Info{}, BlockSizeOptions{Min: 128 << 10}, "blocksize: min is 131072, must be a power of two from 1 to 65536: invalid argument"},
		{block.Info{}, BlockSizeOptions{Preferred: 256}, "blocksize: preferred is 256, must be a power of two and at least 512: invalid argument"},
		{block.Info{}, BlockSizeOptions{Min: 2048, Preferred: 1024}, "blocksize: preferred is 1024, must be a power of two and at least 2048: invalid argument"},
		{block.Info{MinBlock: 1024}, BlockSizeOptions{Max: 1536}, "blocksize: max is 1536, must be a multiple of the device's block size 1024: invalid argument"},
		{block.Info{MaxBlock: 1024}, BlockSizeOptions{Max: 2048}, "blocksize: max is 2048, the device takes at most 1024: invalid argument"},
		{block.Info{}, BlockSizeOptions{Min: 8192}, "blocksize: the device has 4096 bytes, must be a multiple of min 8192: invalid argument"},
	} {
		_, err := BlockSize(newShaped(4096, tt.info), tt.o)
		wantErr(t, err, block.ErrInvalid, tt.want)
	}
}

func TestBlockSizeClose(t *testing.T) {
	t.Parallel()
	dev := newBlockSize(t, newReadOnly(t, newShaped(4096, block.Info{MinBlock: 512})), BlockSizeOptions{})
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	ctx := t.Context()
	for i, err := range []error{dev.Close(), dev.Flush(ctx), dev.WriteAt(ctx, nil, 0, 0), dev.ReadAt(ctx, make([]byte, 3), 1, 0),
		dev.Zero(ctx, 1, 5000, 0), firstError(dev.Extents(ctx, block.Allocation, 1, 5))} {
		if !errors.Is(err, block.ErrClosed) {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

func TestBlockSizeNoAllocation(t *testing.T) {
	passesFree(t, newBlockSize(t, newShaped(1<<20, block.Info{MinBlock: 512}), BlockSizeOptions{}), 4096, 4096)
	passesFree(t, newBlockSize(t, newShaped(1<<20, block.Info{}), BlockSizeOptions{Min: 512}), 4096, 4096)
	if !race.Enabled { // the race detector makes sync.Pool forget at random
		passesFree(t, newBlockSize(t, newShaped(1<<20, block.Info{MinBlock: 512}), BlockSizeOptions{}), 100, 5000)
	}
}

func BenchmarkBlockSize(b *testing.B) {
	dev := newBlockSize(b, nothing{}, BlockSizeOptions{Min: 512})
	b.Run("read", func(b *testing.B) { benchmarkRead(b, dev) })
	b.Run("write", func(b *testing.B) { benchmarkWrite(b, dev) })
}
