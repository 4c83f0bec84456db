package layer

import (
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
)

func newReadOnly(t testing.TB, dev block.Device) block.Device {
	t.Helper()
	return must[block.Device](t)(ReadOnly(dev, ReadOnlyOptions{}))
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	under := newShaped(100, block.Info{MinBlock: 4, Trims: true, FastZeros: true, NativeFUA: true, NoWait: true})
	under.before = func(op Op, _, _ int64, _ block.Flags) error {
		if op != OpRead {
			t.Errorf("operation %d reached the device", op)
		}
		return nil
	}
	dev := newReadOnly(t, under)
	info := dev.Info()
	if !info.ReadOnly || info.Trims || info.FastZeros || info.NativeFUA || info.MinBlock != 4 || !info.NoWait {
		t.Errorf("info %+v", info)
	}
	ctx := t.Context()
	changes := func() []error {
		return []error{dev.WriteAt(ctx, make([]byte, 4), 0, 0), dev.Zero(ctx, 0, 4, 0), dev.Trim(ctx, 0, 4, 0)}
	}
	for i, err := range changes() {
		if err != block.ErrReadOnly {
			t.Errorf("change %d: %v", i, err)
		}
	}
	if err := dev.ReadAt(ctx, make([]byte, 4), 8, 0); err != nil {
		t.Error(err)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	for i, err := range changes() {
		if !errors.Is(err, block.ErrClosed) {
			t.Errorf("change %d after Close: %v", i, err)
		}
	}
}

func TestReadOnlyConformance(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device { return newReadOnly(t, disks(block.Info{NoWait: true}, 140_000)[0]) })
}

func TestReadOnlyNoAllocation(t *testing.T) {
	passesFree(t, newReadOnly(t, newShaped(8192, block.Info{})), 0, 4096)
}

func BenchmarkReadOnly(b *testing.B) { benchmarkRead(b, newReadOnly(b, nothing{})) }
