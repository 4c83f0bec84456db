package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
)

func newConcat(t testing.TB, devs ...block.Device) block.Device {
	t.Helper()
	return must[block.Device](t)(Concat(devs, ConcatOptions{}))
}

func TestConcatRandom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		min   int
		sizes []int
	}{
		{1, []int{1}},
		{1, []int{0, 5, 0, 0, 3, 0}},
		{1, []int{100, 1, 1, 1, 1000, 7}},
		{512, []int{512, 512, 1024, 512}},
		{4096, []int{4096, 8192, 200 << 10}},
		{1, slices.Repeat([]int{3}, 300)},
	} {
		t.Run(fmt.Sprint(tt.min, len(tt.sizes)), func(t *testing.T) {
			t.Parallel()
			all, devs := row(block.Info{MinBlock: tt.min}, tt.sizes...)
			dev := newConcat(t, devs...)
			want := content(t, dev)
			randomly(t, dev, want, 500, len(want))
			for i, s := range all {
				if !bytes.Equal(s.bytes, want[:len(s.bytes)]) {
					t.Errorf("device %d does not hold its part", i)
				}
				want = want[len(s.bytes):]
			}
		})
	}
}

func TestConcatConformance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		info  block.Info
		sizes []int
	}{
		"odd sizes":      {block.Info{NoWait: true}, []int{70_001, 0, 1, 77, 65_537, 13}},
		"single sectors": {block.Info{MinBlock: 512, MaxBlock: 8192}, slices.Repeat([]int{512}, 260)},
		"read-only":      {block.Info{ReadOnly: true}, []int{70_000, 70_000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device { return newConcat(t, disks(tt.info, tt.sizes...)...) })
		})
	}
}

func TestConcatEmpty(t *testing.T) {
	t.Parallel()
	_, devs := row(block.Info{}, 0, 0)
	dev := newConcat(t, devs...)
	if n := dev.Info().Size; n != 0 {
		t.Errorf("size %d", n)
	}
	if err := dev.ReadAt(t.Context(), nil, 0, 0); err != nil {
		t.Error(err)
	}
	if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, 0); !errors.Is(err, block.ErrRange) {
		t.Error(err)
	}
}

func TestConcatErrors(t *testing.T) {
	t.Parallel()
	huge := newShaped(0, block.Info{})
	huge.info.Size = math.MaxInt64
	for _, tt := range []struct {
		devs []block.Device
		want string
	}{
		{nil, "concat: no devices were given, at least one is needed: invalid argument"},
		{[]block.Device{newShaped(1024, block.Info{MinBlock: 512}), newShaped(1000, block.Info{})},
			"concat: device 2 of 2 has 1000 bytes, must be a multiple of 512, the largest block size among them; " +
				"put a blocksize layer over the devices that have it: invalid argument"},
		{[]block.Device{newShaped(1, block.Info{}), huge},
			"concat: the devices together have more than 9223372036854775807 bytes: invalid argument"},
		{[]block.Device{newShaped(4096, block.Info{MinBlock: 4096}), newShaped(4096, block.Info{MaxBlock: 1024})},
			"concat: one device takes at most 1024 bytes in a request and another one at least 4096; " +
				"put a blocksize layer over one of them: invalid argument"},
	} {
		_, err := Concat(tt.devs, ConcatOptions{})
		wantErr(t, err, block.ErrInvalid, tt.want)
	}
}

func TestConcatInfo(t *testing.T) {
	t.Parallel()
	good := block.Info{MinBlock: 512, PreferredBlock: 8192, MaxBlock: 64 << 10, Trims: true, FastZeros: true,
		NativeFUA: true, CheapExtents: true, NoWait: true, Contexts: []string{"a:1", "b:2", "c:3"}}
	other := good
	other.MinBlock, other.PreferredBlock, other.MaxBlock = 1024, 4096, 3000
	other.Contexts = []string{"c:3", "a:1"}
	want := good
	want.Size, want.MinBlock, want.MaxBlock = 2048+3072, 1024, 2048
	want.Contexts = []string{"a:1", "c:3"}
	got := newConcat(t, newShaped(2048, good), newShaped(3072, other)).Info()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	bad := block.Info{ReadOnly: true, Rotational: true}
	want = block.Info{Size: 4096, MinBlock: 512, PreferredBlock: 8192, MaxBlock: 64 << 10, ReadOnly: true,
		Rotational: true, Trims: true, Contexts: []string{}}
	got = newConcat(t, newShaped(2048, good), newShaped(2048, bad)).Info()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if want := []string{"a:1", "b:2", "c:3"}; !slices.Equal(good.Contexts, want) {
		t.Errorf("the contexts of a device were changed to %q", good.Contexts)
	}
}

func TestConcatExtents(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{Contexts: []string{"test:odd"}}, 10, 0, 5, 20)
	for i, s := range all {
		s.extents = func(mc string, off, n int64) iter.Seq2[block.Extent, error] {
			if mc == "test:odd" {
				return block.OneExtent(off, n, uint64(i))
			}
			return alternating(4)(mc, off, n)
		}
	}
	dev := newConcat(t, devs...)
	hole := block.Hole | block.Zero
	got := collect(t, dev, block.Allocation, 2, 20)
	if want := []block.Extent{{Off: 2, Len: 2}, {Off: 4, Len: 4, Status: hole}, {Off: 8, Len: 6},
		{Off: 14, Len: 1, Status: hole}, {Off: 15, Len: 4}, {Off: 19, Len: 3, Status: hole}}; !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	got = collect(t, dev, "test:odd", 0, 35)
	if want := []block.Extent{{Off: 0, Len: 10}, {Off: 10, Len: 5, Status: 2}, {Off: 15, Len: 20, Status: 3}}; !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if err := firstError(dev.Extents(t.Context(), "test:other", 0, 1)); !errors.Is(err, block.ErrInvalid) {
		t.Errorf("unknown context: %v", err)
	}
	if err := firstError(dev.Extents(t.Context(), "test:odd", 30, 6)); !errors.Is(err, block.ErrRange) {
		t.Errorf("past the end: %v", err)
	}
	all[2].extents = func(string, int64, int64) iter.Seq2[block.Extent, error] { return block.FailExtents(block.ErrIO) }
	var last error
	for _, err := range dev.Extents(t.Context(), "test:odd", 0, 35) {
		last = err
	}
	wantErr(t, last, block.ErrIO, "device 3 of 4: input/output error")
}

// The parts of a long request are under way at the same time; those of a short
// one, or of one that must not wait, follow each other.
func TestConcatParallel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		size     int
		flags    block.Flags
		together bool
	}{
		{parallelFrom, 0, true},
		{parallelFrom, block.NoWait, false},
		{2048, 0, false},
	} {
		t.Run(fmt.Sprint(tt.size, tt.flags), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all, devs := row(block.Info{NoWait: true}, tt.size/2, tt.size/2)
				second := make(chan struct{})
				begun := make(chan struct{})
				all[0].before = func(Op, int64, int64, block.Flags) error { <-second; return nil }
				all[1].before = func(Op, int64, int64, block.Flags) error { close(begun); return nil }
				dev := newConcat(t, devs...)
				done := make(chan error)
				go func() { done <- dev.ReadAt(t.Context(), make([]byte, tt.size), 0, tt.flags) }()
				synctest.Wait()
				select {
				case <-begun:
					if !tt.together {
						t.Error("the second part did not wait for the first")
					}
				default:
					if tt.together {
						t.Error("the second part waits for the first")
					}
				}
				close(second)
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestConcatWouldBlock(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{NoWait: true}, 10, 10)
	all[1].before = func(_ Op, _, _ int64, flags block.Flags) error {
		if flags&block.NoWait != 0 {
			return block.ErrWouldBlock
		}
		return nil
	}
	dev := newConcat(t, devs...)
	p := make([]byte, 10)
	if err := dev.WriteAt(t.Context(), p, 5, block.NoWait); err != block.ErrWouldBlock {
		t.Errorf("got %v, want ErrWouldBlock", err)
	}
	if err := dev.WriteAt(t.Context(), p, 5, 0); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(content(t, dev)[5:15], p) {
		t.Error("the write did not happen")
	}
}

// A zero that must be fast either changes nothing or is done.
func TestConcatFastZero(t *testing.T) {
	t.Parallel()
	slow := func(op Op, _, _ int64, flags block.Flags) error {
		if flags&block.FastZero != 0 {
			return block.ErrNotSupported
		}
		return nil
	}
	all, devs := row(block.Info{}, 10, 10, 10)
	dev := newConcat(t, devs...)
	before := content(t, dev)
	all[0].before = slow
	if err := dev.Zero(t.Context(), 5, 20, block.FastZero); err != block.ErrNotSupported {
		t.Errorf("got %v, want ErrNotSupported", err)
	}
	expect(t, dev, before)
	all[0].before, all[1].before = nil, slow
	if err := dev.Zero(t.Context(), 5, 20, block.FastZero); err != nil {
		t.Error(err)
	}
	clear(before[5:25])
	expect(t, dev, before)
}

func TestConcatFaults(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 10, 10, 10)
	all[1].before = func(Op, int64, int64, block.Flags) error { return block.ErrNoSpace }
	dev := newConcat(t, devs...)
	ctx := t.Context()
	for name, f := range map[string]func() error{
		"write of one":     func() error { return dev.WriteAt(ctx, make([]byte, 3), 12, 0) },
		"write of several": func() error { return dev.WriteAt(ctx, make([]byte, 30), 0, 0) },
		"read":             func() error { return dev.ReadAt(ctx, make([]byte, 30), 0, 0) },
		"zero":             func() error { return dev.Zero(ctx, 0, 30, 0) },
		"trim":             func() error { return dev.Trim(ctx, 0, 30, 0) },
		"flush":            func() error { return dev.Flush(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			wantErr(t, f(), block.ErrNoSpace, "device 2 of 3: no space left on device")
		})
	}
	cause := errors.New("no more")
	gone, cancel := context.WithCancelCause(ctx)
	cancel(cause)
	if err := dev.ReadAt(gone, make([]byte, 30), 0, 0); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestConcatClose(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 10, 0, 10)
	dev := newConcat(t, devs...)
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	for i, s := range all {
		if !s.closed.Load() {
			t.Errorf("device %d is open", i)
		}
	}
	ctx := t.Context()
	for i, err := range []error{dev.Close(), dev.Flush(ctx), dev.ReadAt(ctx, nil, 0, 0),
		dev.WriteAt(ctx, make([]byte, 20), 0, 0), dev.Zero(ctx, 0, 20, 0), dev.Trim(ctx, 0, 99, 0),
		firstError(dev.Extents(ctx, block.Allocation, 0, 1))} {
		if !errors.Is(err, block.ErrClosed) {
			t.Errorf("request %d: %v, want ErrClosed", i, err)
		}
	}
}

func TestConcatNoAllocation(t *testing.T) {
	_, devs := row(block.Info{}, slices.Repeat([]int{8192}, 1000)...)
	passesFree(t, newConcat(t, devs...), 777*8192, 4096)
}

func BenchmarkConcat(b *testing.B) {
	for _, n := range []int{2, 100} {
		dev := newConcat(b, slices.Repeat([]block.Device{nothing{}}, n)...)
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkRead(b, dev) })
	}
}
