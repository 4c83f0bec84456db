package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/race"
)

// hooked is Hook over a disk of 64 KiB that is returned too.
func hooked(t testing.TB, hooks Hooks) (dev block.Device, disk []byte) {
	t.Helper()
	disk = make([]byte, 64<<10)
	dev, err := Hook(block.FromBytes(disk), hooks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev, disk
}

// everyRequest makes one request of each kind and returns their errors.
func everyRequest(dev block.Device) (failed [numOps]error) {
	ctx := context.Background()
	failed[OpRead] = dev.ReadAt(ctx, make([]byte, 512), 512, 0)
	failed[OpWrite] = dev.WriteAt(ctx, make([]byte, 512), 512, block.FUA)
	failed[OpZero] = dev.Zero(ctx, 512, 512, block.NoHole)
	failed[OpTrim] = dev.Trim(ctx, 512, 512, 0)
	failed[OpFlush] = dev.Flush(ctx)
	for _, err := range dev.Extents(ctx, block.Allocation, 512, 512) {
		failed[OpExtents] = err
	}
	return failed
}

func TestHookConforms(t *testing.T) {
	t.Parallel()
	pass := func(context.Context, *Request) error { return nil }
	around := func(ctx context.Context, _ *Request, next func(context.Context) error) error { return next(ctx) }
	for name, hooks := range map[string]Hooks{
		"all":     {Before: pass, Replace: around, After: func(_ context.Context, _ *Request, err error) error { return err }},
		"flushes": {Ops: []Op{OpFlush}, Before: pass},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device {
				return must[block.Device](t)(Hook(disks(block.Info{MinBlock: 512, NoWait: true}, 144<<10)[0], hooks))
			})
		})
	}
	t.Run("redirected", func(t *testing.T) {
		t.Parallel()
		conform(t, func(t testing.TB) block.Device {
			devs := disks(block.Info{NoWait: true}, 144<<10, 144<<10)
			return must[block.Device](t)(Hook(devs[0], Hooks{Devices: devs[1:], Before: func(_ context.Context, r *Request) error {
				r.Device = devs[1]
				return nil
			}}))
		})
	})
}

func TestHookRunsBeforeReplaceAfterInOrder(t *testing.T) {
	t.Parallel()
	var log []string
	dev, _ := hooked(t, Hooks{
		Before: func(_ context.Context, r *Request) error {
			log = append(log, fmt.Sprintf("before %v %d+%d", r.Op, r.Off, r.Len))
			return nil
		},
		Replace: func(ctx context.Context, r *Request, next func(context.Context) error) error {
			log = append(log, "replace")
			return next(ctx)
		},
		After: func(_ context.Context, r *Request, err error) error {
			log = append(log, fmt.Sprintf("after %v", err))
			return err
		},
	})
	for op, err := range everyRequest(dev) {
		if err != nil {
			t.Errorf("%v: %v", Op(op), err)
		}
	}
	var want []string
	for op := range Op(numOps) {
		where := "512+512"
		if op == OpFlush {
			where = "0+0"
		}
		want = append(want, fmt.Sprintf("before %v %s", op, where), "replace", "after <nil>")
	}
	if !slices.Equal(log, want) {
		t.Errorf("hooks ran as\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

func TestHookRefusesEachOperation(t *testing.T) {
	t.Parallel()
	for op := range Op(numOps) {
		dev, _ := hooked(t, Hooks{Ops: []Op{op}, Before: func(context.Context, *Request) error { return block.ErrPermission }})
		for other, err := range everyRequest(dev) {
			if refused := errors.Is(err, block.ErrPermission); refused != (Op(other) == op) {
				t.Errorf("hook on %v: %v returned %v", op, Op(other), err)
			}
		}
	}
}

func TestHookAnswersAndChangesResults(t *testing.T) {
	t.Parallel()
	dev, disk := hooked(t, Hooks{
		Replace: func(ctx context.Context, r *Request, next func(context.Context) error) error {
			if r.Op == OpRead {
				copy(r.Data, "answered")
				return nil
			}
			return next(ctx)
		},
		After: func(_ context.Context, r *Request, err error) error {
			if r.Op == OpZero {
				return block.ErrNoSpace
			}
			return err
		},
	})
	p := make([]byte, 8)
	if err := dev.ReadAt(t.Context(), p, 0, 0); err != nil || string(p) != "answered" {
		t.Errorf("read %q, %v", p, err)
	}
	disk[0] = 1
	if err := dev.Zero(t.Context(), 0, 8, 0); err != block.ErrNoSpace || disk[0] != 0 {
		t.Errorf("Zero returned %v, disk holds %d", err, disk[0])
	}
}

func TestHookRewrites(t *testing.T) {
	t.Parallel()
	dev, disk := hooked(t, Hooks{Ops: []Op{OpWrite, OpExtents}, Before: func(_ context.Context, r *Request) error {
		r.Off += 4096
		r.Data = bytes.ToUpper(r.Data)
		return nil
	}})
	p := []byte("written")
	if err := dev.WriteAt(t.Context(), p, 1, 0); err != nil {
		t.Fatal(err)
	}
	if got := string(disk[4097:][:7]); got != "WRITTEN" || string(p) != "written" {
		t.Errorf("disk holds %q and the caller %q", got, p)
	}
	for e := range dev.Extents(t.Context(), block.Allocation, 0, 10) {
		if e.Off != 4096 {
			t.Errorf("extents were asked of offset %d, want 4096", e.Off)
		}
	}
}

// counting counts flushes and closes.
type counting struct {
	block.Pass
	flushes, closes int
}

func (c *counting) Flush(ctx context.Context) error { c.flushes++; return c.Device.Flush(ctx) }
func (c *counting) Close() error                    { c.closes++; return c.Device.Close() }

func TestHookRedirectsAndFlushesWhereItRedirectsTo(t *testing.T) {
	t.Parallel()
	first, second := make([]byte, 64<<10), make([]byte, 4096)
	a, b := &counting{Pass: block.Pass{Device: block.FromBytes(first)}}, &counting{Pass: block.Pass{Device: block.FromBytes(second)}}
	stranger := block.FromBytes(make([]byte, 64<<10))
	for _, ops := range [][]Op{{OpWrite}, {OpWrite, OpFlush}} {
		dev, err := Hook(a, Hooks{Ops: ops, Devices: []block.Device{b}, Before: func(_ context.Context, r *Request) error {
			switch {
			case r.Op == OpWrite && r.Off == 512:
				r.Device = stranger
			case r.Op == OpWrite:
				r.Device = b
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.WriteAt(t.Context(), []byte("x"), 4095, 0); err != nil {
			t.Error(err)
		}
		if first[4095] != 0 || second[4095] != 'x' {
			t.Error("the write went to the wrong device")
		}
		if err := dev.WriteAt(t.Context(), []byte("x"), 4096, 0); !errors.Is(err, block.ErrRange) {
			t.Errorf("a write out of range of its new device returned %v", err)
		}
		if err := dev.WriteAt(t.Context(), []byte("x"), 512, 0); !errors.Is(err, block.ErrInvalid) || !strings.Contains(err.Error(), "sent a write to a device that is not one of its Devices") {
			t.Errorf("a write sent to a stranger returned %v", err)
		}
		a.flushes, b.flushes = 0, 0
		if err := dev.Flush(t.Context()); err != nil || a.flushes != 1 || b.flushes != 1 {
			t.Errorf("Flush returned %v and reached the devices %d and %d times", err, a.flushes, b.flushes)
		}
		if len(ops) == 2 {
			if err := dev.Close(); err != nil || a.closes != 1 || b.closes != 1 {
				t.Errorf("Close returned %v and reached the devices %d and %d times", err, a.closes, b.closes)
			}
		}
	}
}

func TestHookNeverSeesWhatIsOutOfRangeOrLate(t *testing.T) {
	t.Parallel()
	dev, _ := hooked(t, Hooks{Replace: func(_ context.Context, r *Request, _ func(context.Context) error) error {
		t.Errorf("hook saw %v %d+%d", r.Op, r.Off, r.Len)
		return nil
	}})
	p := make([]byte, 2)
	if err := dev.ReadAt(t.Context(), p, 64<<10-1, 0); !errors.Is(err, block.ErrRange) {
		t.Errorf("ReadAt returned %v", err)
	}
	if err := dev.Zero(t.Context(), -1, 1, 0); !errors.Is(err, block.ErrRange) {
		t.Errorf("Zero returned %v", err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	for op, err := range everyRequest(dev) {
		if !errors.Is(err, block.ErrClosed) {
			t.Errorf("%v on a closed device returned %v", Op(op), err)
		}
	}
	if err := dev.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("a second Close returned %v", err)
	}
}

// waiting is a device with NoWait.
type waiting struct {
	block.Pass
	flags block.Flags // of the last read
}

func (w *waiting) Info() block.Info {
	info := w.Device.Info()
	info.NoWait = true
	return info
}

func (w *waiting) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	w.flags = flags
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	return w.Device.ReadAt(ctx, p, off, flags)
}

func TestHookOfDataClearsNoWait(t *testing.T) {
	t.Parallel()
	pass := func(context.Context, *Request) error { return nil }
	for op := range Op(numOps) {
		disk := &waiting{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4096))}}
		dev, err := Hook(disk, Hooks{Ops: []Op{op}, Before: pass})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := dev.Info().NoWait, op != OpRead && op != OpWrite; got != want {
			t.Errorf("hook on %v: NoWait is %v", op, got)
		}
		err = dev.ReadAt(t.Context(), make([]byte, 1), 0, block.NoWait)
		if op == OpRead && (err != nil || disk.flags != 0) {
			t.Errorf("hooked read with NoWait returned %v, device saw flags %b", err, disk.flags)
		}
	}
}

func TestHookWithoutExtentsIsAnError(t *testing.T) {
	t.Parallel()
	dev, _ := hooked(t, Hooks{Replace: func(context.Context, *Request, func(context.Context) error) error { return nil }})
	next, stop := iter.Pull2(dev.Extents(t.Context(), block.Allocation, 0, 1))
	defer stop()
	if _, err, ok := next(); !ok || !errors.Is(err, block.ErrIO) {
		t.Errorf("extents that no hook set: %v, %v", err, ok)
	}
}

// uncomparable is a device that cannot be compared with ==.
type uncomparable struct {
	block.Pass
	_ []int
}

func TestHookRefusesBadOptions(t *testing.T) {
	t.Parallel()
	dev := block.FromBytes(nil)
	pass := func(context.Context, *Request) error { return nil }
	for want, hooks := range map[string]Hooks{
		"hook: no function given: set Before, Replace or After":                                {},
		"hook: op 9 is not an operation":                                                       {Ops: []Op{9}, Before: pass},
		"hook: values of layer.uncomparable cannot be told apart: use a pointer as the device": {Before: pass, Devices: []block.Device{uncomparable{}}},
	} {
		if _, err := Hook(dev, hooks); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

// noAllocations fails the test if f allocates in the long run. Under the race
// detector pools forget on purpose, so that nothing can be said.
func noAllocations(t *testing.T, what string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(1000, f); n != 0 && !race.Enabled {
		t.Errorf("%s: %v allocations, want none", what, n)
	}
}

func TestHookOfAnyKindOfDevice(t *testing.T) {
	t.Parallel()
	pass := func(context.Context, *Request) error { return nil }
	dev := must[block.Device](t)(Hook(uncomparable{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4096))}}, Hooks{Before: pass}))
	for op, err := range everyRequest(dev) {
		if err != nil {
			t.Errorf("%v: %v", Op(op), err)
		}
	}
}

func TestHookAllocatesNothing(t *testing.T) {
	dev, _ := hooked(t, Hooks{Ops: []Op{OpWrite}, Before: func(context.Context, *Request) error { return nil }})
	ctx, p := context.Background(), make([]byte, 512)
	noAllocations(t, "read that is not hooked", func() { _ = dev.ReadAt(ctx, p, 0, 0) })
	noAllocations(t, "write that is", func() { _ = dev.WriteAt(ctx, p, 0, 0) })
}

func BenchmarkHook(b *testing.B) {
	dev, err := Hook(&nothing{}, Hooks{Ops: []Op{OpWrite}, Before: func(context.Context, *Request) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("not hooked", func(b *testing.B) { benchmarkRead(b, dev) })
	b.Run("hooked", func(b *testing.B) { benchmarkWrite(b, dev) })
}
