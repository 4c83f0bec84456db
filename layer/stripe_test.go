package layer

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
)

func newStripe(t testing.TB, chunk int64, devs ...block.Device) block.Device {
	t.Helper()
	return must[block.Device](t)(Stripe(devs, StripeOptions{Chunk: chunk}))
}

// The bytes lie where the documentation says.
func TestStripeLayout(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 3*512, 4*512, 2*512+100)
	dev := newStripe(t, 512, devs...)
	if n := dev.Info().Size; n != 6*512 {
		t.Fatalf("size %d, want %d", n, 6*512)
	}
	for c := range 6 {
		if err := dev.WriteAt(t.Context(), bytes.Repeat([]byte{byte(c)}, 512), int64(c)*512, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range all {
		for r := range 2 {
			if got := s.bytes[r*512]; int(got) != r*3+i {
				t.Errorf("device %d row %d holds chunk %d, want %d", i, r, got, r*3+i)
			}
		}
		if !bytes.Equal(s.bytes[1024:], bytes.Repeat([]byte{0xee}, len(s.bytes)-1024)) {
			t.Errorf("device %d was written beyond the stripes", i)
		}
	}
}

func TestStripeRandom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		min     int
		chunk   int64
		sizes   []int
		longest int
	}{
		{1, 512, []int{512}, 512},
		{1, 512, []int{1024, 1024}, 2048},
		{512, 512, []int{5 * 512, 7 * 512, 6 * 512}, 15 * 512},
		{1, 1024, slices.Repeat([]int{4096}, 17), 50000},
		{4096, 4096, []int{64 << 10, 64 << 10, 64 << 10}, 192 << 10},
		{1, 0, []int{200 << 10, 200 << 10}, 200 << 10},
	} {
		t.Run(fmt.Sprint(tt.chunk, len(tt.sizes)), func(t *testing.T) {
			t.Parallel()
			_, devs := row(block.Info{MinBlock: tt.min}, tt.sizes...)
			dev := newStripe(t, tt.chunk, devs...)
			randomly(t, dev, content(t, dev), 500, tt.longest)
		})
	}
}

func TestStripeConformance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		info  block.Info
		chunk int64
		sizes []int
	}{
		"two":          {block.Info{NoWait: true}, 0, []int{64 << 10, 100_000}},
		"many sectors": {block.Info{MinBlock: 512, MaxBlock: 4096}, 512, slices.Repeat([]int{4096}, 33)},
		"large blocks": {block.Info{MinBlock: 4096}, 16384, []int{48 << 10, 48 << 10, 100 << 10}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device { return newStripe(t, tt.chunk, disks(tt.info, tt.sizes...)...) })
		})
	}
}

func TestStripeErrors(t *testing.T) {
	t.Parallel()
	huge := newShaped(0, block.Info{})
	huge.info.Size = math.MaxInt64
	ok := newShaped(4096, block.Info{})
	for _, tt := range []struct {
		chunk int64
		devs  []block.Device
		want  string
	}{
		{512, nil, "stripe: no devices were given, at least one is needed: invalid argument"},
		{0, []block.Device{ok}, "stripe: the smallest device has 4096 bytes, less than one chunk of 65536: invalid argument"},
		{1000, []block.Device{ok}, "stripe: chunk is 1000 bytes, must be a power of two and at least 512: invalid argument"},
		{-4096, []block.Device{ok}, "stripe: chunk is -4096 bytes, must be a power of two and at least 512: invalid argument"},
		{256, []block.Device{ok}, "stripe: chunk is 256 bytes, must be a power of two and at least 512: invalid argument"},
		{2048, []block.Device{newShaped(4096, block.Info{MinBlock: 4096})},
			"stripe: chunk is 2048 bytes, must be a power of two and at least 4096: invalid argument"},
		{512, []block.Device{huge, huge}, "stripe: the devices together have more than 9223372036854775807 bytes: invalid argument"},
	} {
		_, err := Stripe(tt.devs, StripeOptions{Chunk: tt.chunk})
		wantErr(t, err, block.ErrInvalid, tt.want)
	}
}

// The extents of a range are those of its chunks, one by one.
func TestStripeExtents(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		all, devs := row(block.Info{}, slices.Repeat([]int{9 * 512}, n)...)
		for i, s := range all {
			s.extents = alternating([]int64{700, 512, 3000, 1024}[i])
		}
		dev := newStripe(t, 512, devs...)
		size := dev.Info().Size
		var status []uint64
		for off := range size {
			i, at := int(off/512)%n, off/512/int64(n)*512+off%512
			for e := range all[i].extents("", at, 1) {
				status = append(status, e.Status)
			}
		}
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		for range 200 {
			off := rng.Int64N(size + 1)
			k := rng.Int64N(size - off + 1)
			at := off
			for _, e := range collect(t, dev, block.Allocation, off, k) {
				if e.Off != at || e.Len == 0 {
					t.Fatalf("extent %v does not follow %d", e, at)
				}
				for ; at < e.End(); at++ {
					if status[at] != e.Status {
						t.Fatalf("%d devices, byte %d: status %d, want %d", n, at, e.Status, status[at])
					}
				}
			}
			if at != off+k {
				t.Fatalf("extents end at %d, want %d", at, off+k)
			}
		}
	}
}

// A hole of many terabytes is one step, not one for every chunk.
func TestStripeExtentsOfHugeHole(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 0, 0, 0)
	for _, s := range all {
		s.info.Size = 1 << 50
		s.extents = func(_ string, off, n int64) iter.Seq2[block.Extent, error] {
			return block.OneExtent(off, n, block.Hole|block.Zero)
		}
	}
	dev := newStripe(t, 512, devs...)
	steps := 0
	for _, err := range dev.Extents(t.Context(), block.Allocation, 100, dev.Info().Size-300) {
		if err != nil {
			t.Fatal(err)
		}
		steps++
	}
	if steps != 1 {
		t.Errorf("%d extents, want 1", steps)
	}
}

// A caller that stops, and a device that fails or lies, leave nothing behind.
func TestStripeExtentsEnd(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 1024, 1024)
	dev := newStripe(t, 512, devs...)
	for range dev.Extents(t.Context(), block.Allocation, 0, 2048) {
		break
	}
	all[1].extents = func(string, int64, int64) iter.Seq2[block.Extent, error] { return block.FailExtents(block.ErrIO) }
	var last error
	for _, err := range dev.Extents(t.Context(), block.Allocation, 0, 2048) {
		last = err
	}
	wantErr(t, last, block.ErrIO, "device 2 of 2: input/output error")
	all[1].extents = func(_ string, off, n int64) iter.Seq2[block.Extent, error] { return block.OneExtent(off, n/2, 0) }
	for _, err := range dev.Extents(t.Context(), block.Allocation, 0, 2048) {
		last = err
	}
	wantErr(t, last, block.ErrIO, "extents end at 512, expected more: input/output error")
}

// Each device gets one request for a zero or trim of any length.
func TestStripeChange(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 1<<20, 1<<20)
	type request struct{ off, n int64 }
	got := make([][]request, 2)
	for i, s := range all {
		s.before = func(_ Op, off, n int64, _ block.Flags) error {
			got[i] = append(got[i], request{off, n})
			return nil
		}
	}
	dev := newStripe(t, 512, devs...)
	if err := dev.Trim(t.Context(), 700, 1<<20, 0); err != nil {
		t.Fatal(err)
	}
	want := [][]request{{{512, 1 << 19}}, {{188, 1 << 19}}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStripeNoAllocation(t *testing.T) {
	_, devs := row(block.Info{}, 1<<20, 1<<20, 1<<20)
	passesFree(t, newStripe(t, 0, devs...), 5*64<<10, 64<<10)
}

func BenchmarkStripe(b *testing.B) {
	dev := newStripe(b, 0, slices.Repeat([]block.Device{nothing{}}, 3)...)
	b.Run("one chunk", func(b *testing.B) { benchmarkRead(b, dev) })
	b.Run("16 chunks", func(b *testing.B) {
		p := make([]byte, 1<<20)
		b.ReportAllocs()
		for b.Loop() {
			_ = dev.ReadAt(b.Context(), p, 0, 0)
		}
	})
}
