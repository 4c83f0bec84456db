package blocktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

func TestFaults(t *testing.T) {
	ctx := t.Context()
	f := NewFaults(Fault{Kinds: Write | Zero, N: 2, Err: block.ErrNoSpace, Done: Half}, Fault{Kinds: Flush, N: 1, Sticky: true})
	a, b := f.Wrap(NewDevice(block.Info{Size: 4096})), f.Wrap(NewDevice(block.Info{Size: 4096}))
	p := filled(0, 1024, 1)
	got := make([]byte, 1024)
	for _, step := range []struct {
		err  error
		want error
	}{
		{a.WriteAt(ctx, p, 0, 0), nil},
		{b.ReadAt(ctx, got, 0, 0), nil},
		{b.WriteAt(ctx, p, 0, 0), block.ErrNoSpace},
		{b.Zero(ctx, 0, 100, 0), nil},
		{b.Trim(ctx, 0, 0, 0), nil},
		{a.Flush(ctx), block.ErrIO},
		{b.Flush(ctx), block.ErrIO},
		{b.ReadAt(ctx, got, 0, 0), nil},
	} {
		if !errors.Is(step.err, step.want) {
			t.Errorf("got %v, want %v", step.err, step.want)
		}
	}
	if !block.IsZero(got[:100]) || string(got[100:512]) != string(p[100:512]) || !block.IsZero(got[512:]) {
		t.Error("the write that failed was not half done")
	}
	if fired := f.Fired(); len(fired) != 3 || fired[0] != "write 0 1024 seed=0 failed, half done: no space left on device" {
		t.Errorf("fired %q", fired)
	}
	f.Stop()
	if err := a.Flush(ctx); err != nil {
		t.Errorf("after Stop: %v", err)
	}
}

func TestFaultOfEachKind(t *testing.T) {
	for _, kind := range []Kind{Read, Write, Zero, Trim, Flush, Extents} {
		f := NewFaults(Fault{Kinds: kind, N: 1})
		m := NewModel(block.Info{Size: 4096})
		dev := f.Wrap(NewDevice(block.Info{Size: 4096}))
		for _, k := range []Kind{Read, Write, Zero, Trim, Flush, Extents} {
			err := m.Do(t.Context(), dev, Op{Kind: k, Len: 512})
			if (err != nil) != (k == kind) || isBroken(err) {
				t.Errorf("fault of %v, %v returned %v", kind, k, err)
			}
		}
	}
}

// TestEachFault: a layer that writes to two devices passes, one that hides the
// errors of the second does not.
func TestEachFault(t *testing.T) {
	info := block.Info{Size: 64 << 10}
	h := Generate(1, info, 30)
	run := func(hide bool) error {
		return eachFault(func(f *Faults) error {
			second := f.Wrap(NewDevice(info))
			d := &twisted{Pass: block.Pass{Device: f.Wrap(NewDevice(info))}}
			d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
				err := d.Device.WriteAt(ctx, p, off, flags)
				if hide {
					err = nil
				}
				return errors.Join(err, second.WriteAt(ctx, p, off, flags))
			}
			m := NewModel(info)
			if err := m.PlayFaults(t.Context(), d, h); err != nil {
				return err
			}
			f.Stop()
			return m.Verify(t.Context(), d)
		})
	}
	if err := run(false); err != nil {
		t.Error(err)
	}
	err := run(true)
	if !errors.Is(err, ErrBroken) || !strings.Contains(fmt.Sprint(err), "write") {
		t.Errorf("a hidden error was not found out: %v", err)
	}
}
