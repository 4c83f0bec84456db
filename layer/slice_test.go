package layer

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
)

func newSlice(t testing.TB, dev block.Device, o SliceOptions) block.Device {
	t.Helper()
	return must[block.Device](t)(Slice(dev, o))
}

func TestSliceRandom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		min, offset, length, size int
	}{
		{1, 0, 0, 1000}, {1, 999, 0, 1}, {1, 0, 1, 1}, {1, 123, 456, 456}, {1, 1000, 0, 0}, {512, 512, 1024, 1024},
	} {
		under := newShaped(1000, block.Info{MinBlock: tt.min})
		if tt.min > 1 {
			under = newShaped(4096, block.Info{MinBlock: tt.min})
		}
		before := bytes.Clone(under.bytes)
		dev := newSlice(t, under, SliceOptions{Offset: int64(tt.offset), Length: int64(tt.length)})
		if n := dev.Info().Size; n != int64(tt.size) {
			t.Fatalf("%+v: size %d", tt, n)
		}
		want := content(t, dev)
		randomly(t, dev, want, 200, tt.size)
		copy(before[tt.offset:], want)
		if !bytes.Equal(under.bytes, before) {
			t.Errorf("%+v: bytes outside the slice have changed", tt)
		}
	}
}

func TestSliceConformance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		info block.Info
		o    SliceOptions
	}{
		"odd":     {block.Info{NoWait: true}, SliceOptions{Offset: 12_345, Length: 140_000}},
		"sectors": {block.Info{MinBlock: 512, MaxBlock: 8192}, SliceOptions{Offset: 512 * 7}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device { return newSlice(t, disks(tt.info, 160<<10)[0], tt.o) })
		})
	}
}

// No request gets out of the slice into the device around it.
func TestSliceRange(t *testing.T) {
	t.Parallel()
	dev := newSlice(t, newShaped(100, block.Info{}), SliceOptions{Offset: 40, Length: 20})
	ctx := t.Context()
	for _, r := range [][2]int64{{-1, 2}, {0, 21}, {20, 1}, {21, 0}, {1, 1<<63 - 1}} {
		errs := []error{dev.Zero(ctx, r[0], r[1], 0), dev.Trim(ctx, r[0], r[1], 0),
			firstError(dev.Extents(ctx, block.Allocation, r[0], r[1]))}
		if r[1] < 100 {
			p := make([]byte, r[1])
			errs = append(errs, dev.ReadAt(ctx, p, r[0], 0), dev.WriteAt(ctx, p, r[0], 0))
		}
		for i, err := range errs {
			if !errors.Is(err, block.ErrRange) {
				t.Errorf("%d bytes at %d, request %d: %v", r[1], r[0], i, err)
			}
		}
	}
}

func TestSliceExtents(t *testing.T) {
	t.Parallel()
	under := newShaped(100, block.Info{})
	under.extents = alternating(10)
	dev := newSlice(t, under, SliceOptions{Offset: 15, Length: 50})
	hole := block.Hole | block.Zero
	got := collect(t, dev, block.Allocation, 1, 20)
	if want := []block.Extent{{Off: 1, Len: 4, Status: hole}, {Off: 5, Len: 10}, {Off: 15, Len: 6, Status: hole}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSliceErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    SliceOptions
		is   error
		want string
	}{
		{SliceOptions{Offset: -1}, block.ErrInvalid, "slice: offset -1 and length 0 must not be negative: invalid argument"},
		{SliceOptions{Offset: 8192}, block.ErrRange, "slice: 0 bytes at offset 8192 end beyond the 4096 that there are: out of range of the device"},
		{SliceOptions{Offset: 512, Length: 1<<63 - 1}, block.ErrRange,
			"slice: 9223372036854775807 bytes at offset 512 end beyond the 4096 that there are: out of range of the device"},
		{SliceOptions{Offset: 100, Length: 512}, block.ErrInvalid,
			"slice: 512 bytes at offset 100 must be multiples of the device's block size 512; put a blocksize layer under the slice: invalid argument"},
		{SliceOptions{Partition: -2}, block.ErrInvalid, "slice: partition is -2, must be 1 or more: invalid argument"},
		{SliceOptions{Partition: 1, Sector: 1024}, block.ErrInvalid, "slice: sector is 1024, must be 512 or 4096: invalid argument"},
		{SliceOptions{Sector: 512}, block.ErrInvalid, "slice: sector is 512 without a partition: invalid argument"},
		{SliceOptions{Partition: 1}, block.ErrInvalid,
			"slice: the device has no partition table: expected the signature 55 aa of an MBR at byte 510: invalid argument"},
	} {
		_, err := Slice(newShaped(4096, block.Info{MinBlock: 512}), tt.o)
		wantErr(t, err, tt.is, tt.want)
	}
}

func TestSliceClose(t *testing.T) {
	t.Parallel()
	dev := newSlice(t, newReadOnly(t, newShaped(100, block.Info{})), SliceOptions{Offset: 10})
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	for i, err := range []error{dev.Close(), dev.WriteAt(t.Context(), nil, 0, 0), dev.Trim(t.Context(), 0, 1, 0)} {
		if !errors.Is(err, block.ErrClosed) {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

func TestSliceNoAllocation(t *testing.T) {
	passesFree(t, newSlice(t, newShaped(9000, block.Info{}), SliceOptions{Offset: 100}), 1, 4096)
}

func BenchmarkSlice(b *testing.B) {
	benchmarkRead(b, newSlice(b, nothing{}, SliceOptions{Offset: 4096}))
}
