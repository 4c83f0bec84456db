package blocktest

import (
	"context"
	"errors"
	"iter"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
)

// crimes are devices that break one promise each.
var crimes = []struct {
	name string
	// caught are the test cases that must find it.
	caught []string
	info   block.Info
	twist  func(d *twisted)
}{
	{name: "Info that changes", caught: []string{"info"}, twist: func(d *twisted) {
		calls := 0
		d.info = func(i block.Info) block.Info {
			calls++
			i.Rotational = calls%2 == 0
			return i
		}
	}},
	{name: "crooked MinBlock", caught: []string{"info"}, twist: func(d *twisted) {
		d.info = func(i block.Info) block.Info { i.MinBlock = 24; return i }
	}},
	{name: "tiny PreferredBlock", caught: []string{"info"}, twist: func(d *twisted) {
		d.info = func(i block.Info) block.Info { i.PreferredBlock = 256; return i }
	}},
	{name: "short read", caught: []string{"read", "history"}, twist: func(d *twisted) {
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if len(p) > 4096 {
				p = p[:len(p)-1]
			}
			return d.Device.ReadAt(ctx, p, off, flags)
		}
	}},
	{name: "read beyond the buffer", caught: []string{"read"}, twist: func(d *twisted) {
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			err := d.Device.ReadAt(ctx, p, off, flags)
			if err == nil && cap(p) > len(p) {
				p[:len(p)+1][len(p)] = 0
			}
			return err
		}
	}},
	{name: "refuses a length of zero at the end", caught: []string{"ranges"}, twist: func(d *twisted) {
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if off >= d.Info().Size {
				return block.ErrRange
			}
			return d.Device.ReadAt(ctx, p, off, flags)
		}
	}},
	{name: "off by one at the end", caught: []string{"ranges"}, twist: func(d *twisted) {
		d.trim = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if off+n == d.Info().Size+1 {
				n--
			}
			return d.Device.Trim(ctx, off, n, flags)
		}
	}},
	{name: "range that overflows", caught: []string{"ranges"}, twist: func(d *twisted) {
		d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if size := d.Info().Size; n > 0 && off > 0 && off+n <= size {
				n = min(n, size-off)
			}
			if off+n < 0 {
				return nil
			}
			return d.Device.Zero(ctx, off, n, flags)
		}
	}},
	{name: "wrong error for a range", caught: []string{"ranges"}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if err := d.Device.WriteAt(ctx, p, off, flags); err != nil {
				return block.ErrNoSpace
			}
			return nil
		}
	}},
	{name: "moves bytes before it refuses", caught: []string{"ranges"}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if size := d.Info().Size; off >= 0 && off < size && off+int64(len(p)) > size {
				d.Device.WriteAt(ctx, p[:size-off], off, flags)
			}
			return d.Device.WriteAt(ctx, p, off, flags)
		}
	}},
	{name: "misaligned requests", caught: []string{"alignment"}, twist: func(d *twisted) {
		d.info = func(i block.Info) block.Info { i.MinBlock = 512; return i }
	}},
	{name: "requests beyond MaxBlock", caught: []string{"alignment"}, twist: func(d *twisted) {
		d.info = func(i block.Info) block.Info { i.MaxBlock = 64 << 10; return i }
	}},
	{name: "MaxBlock is one too many", caught: []string{"alignment"}, info: block.Info{MaxBlock: 65535}, twist: func(d *twisted) {
		d.info = func(i block.Info) block.Info { i.MaxBlock = 65536; return i }
	}},
	{name: "lost end of a write", caught: []string{"write", "history"}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if end := off + int64(len(p)); len(p) > 1 && off < 64<<10 && end > 64<<10 {
				p = p[:64<<10-off]
			}
			return d.Device.WriteAt(ctx, p, off, flags)
		}
	}},
	{name: "modifies p", caught: []string{"write"}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			err := d.Device.WriteAt(ctx, p, off, flags)
			if len(p) > 0 {
				p[0]++
			}
			return err
		}
	}},
	{name: "retains p", caught: []string{"write"}, twist: func(d *twisted) {
		var mu sync.Mutex
		var later func() error
		settle := func() error {
			mu.Lock()
			defer mu.Unlock()
			if later == nil {
				return nil
			}
			err := later()
			later = nil
			return err
		}
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			err := settle()
			mu.Lock()
			defer mu.Unlock()
			later = func() error { return d.Device.WriteAt(ctx, p, off, flags) }
			return err
		}
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			return errors.Join(settle(), d.Device.ReadAt(ctx, p, off, flags))
		}
	}},
	{name: "first write to a chunk clears it", caught: []string{"write", "history"}, twist: func(d *twisted) {
		var seen sync.Map
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			const chunk = 16 << 10
			if n := off / chunk; len(p) > 0 && n%7 == 4 {
				if _, ok := seen.LoadOrStore(n, true); !ok {
					d.Device.Zero(ctx, n*chunk, chunk, 0)
				}
			}
			return d.Device.WriteAt(ctx, p, off, flags)
		}
	}},
	{name: "read-modify-write without a lock", caught: []string{"neighbours"}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if info := d.Info(); info.CheckWrite(off, len(p)) != nil || len(p) == 0 {
				return d.Device.WriteAt(ctx, p, off, flags)
			}
			from, to := off&^511, min((off+int64(len(p))+511)&^511, d.Info().Size)
			buf := make([]byte, to-from)
			if err := d.Device.ReadAt(ctx, buf, from, 0); err != nil {
				return err
			}
			runtime.Gosched()
			copy(buf[off-from:], p)
			return d.Device.WriteAt(ctx, buf, from, flags)
		}
	}},
	{name: "overlapping writes mix within sectors", caught: []string{"overlap"}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if len(p) == 0 {
				return d.Device.WriteAt(ctx, p, off, flags)
			}
			for step := 100; len(p) > 0; {
				k := min(step, len(p))
				if err := d.Device.WriteAt(ctx, p[:k], off, flags); err != nil {
					return err
				}
				runtime.Gosched()
				p, off = p[k:], off+int64(k)
			}
			return nil
		}
	}},
	{name: "read-only device that takes writes", caught: []string{"read only"}, twist: func(d *twisted) {
		d.info = func(i block.Info) block.Info { i.ReadOnly = true; return i }
	}},
	{name: "read-only device with the wrong error", caught: []string{"read only"}, info: block.Info{ReadOnly: true}, twist: func(d *twisted) {
		d.trim = func(context.Context, int64, int64, block.Flags) error { return block.ErrPermission }
	}},
	{name: "zeroes too much", caught: []string{"zero", "history"}, twist: func(d *twisted) {
		d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if end := off + n; n >= 4096 && end+512 <= d.Info().Size {
				n = (end+511)&^511 - off
			}
			return d.Device.Zero(ctx, off, n, flags)
		}
	}},
	{name: "zeroes too little", caught: []string{"zero", "history"}, twist: func(d *twisted) {
		d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if n > 4096 && flags&block.NoHole != 0 {
				n -= 512
			}
			return d.Device.Zero(ctx, off, n, flags)
		}
	}},
	{name: "FastZero changes bytes and says no", caught: []string{"zero"}, twist: func(d *twisted) {
		d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if flags&block.FastZero == 0 {
				return d.Device.Zero(ctx, off, n, flags)
			}
			if err := d.Device.Zero(ctx, off, n/2, flags&^block.FastZero); err != nil {
				return err
			}
			return d.Device.Zero(ctx, off, n, flags)
		}
	}},
	{name: "trim leaves garbage", caught: []string{"trim", "history"}, twist: func(d *twisted) {
		d.trim = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if err := d.Device.Trim(ctx, off, n, flags); err != nil || n == 0 {
				return err
			}
			return d.Device.WriteAt(ctx, []byte{0xee}, off+n-1, 0)
		}
	}},
	{name: "trims too much", caught: []string{"trim", "history"}, twist: func(d *twisted) {
		d.trim = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if err := d.Device.Trim(ctx, off, n, flags); err != nil || n < 512 {
				return err
			}
			from := off &^ 4095
			return d.Device.Zero(ctx, from, off+n-from, 0)
		}
	}},
	{name: "long trim fails", caught: []string{"whole device"}, twist: func(d *twisted) {
		d.trim = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if n > 512<<10 {
				return block.ErrInvalid
			}
			return d.Device.Trim(ctx, off, n, flags)
		}
	}},
	{name: "long zero is cut short", caught: []string{"whole device"}, twist: func(d *twisted) {
		d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if n == d.Info().Size {
				n -= 4096
			}
			return d.Device.Zero(ctx, off, n, flags)
		}
	}},
	{name: "flush fails", caught: []string{"flush"}, twist: func(d *twisted) {
		d.flush = func(context.Context) error { return block.ErrIO }
	}},
	{name: "extents with a gap", caught: []string{"extents"}, twist: func(d *twisted) {
		d.extents = everyExtent(d, func(e block.Extent) block.Extent {
			if e.Off > 0 {
				e.Off += 512
			}
			return e
		})
	}},
	{name: "extents beyond the range", caught: []string{"extents"}, twist: func(d *twisted) {
		d.extents = everyExtent(d, func(e block.Extent) block.Extent { e.Len += 512; return e })
	}},
	{name: "extents that end early", caught: []string{"extents"}, twist: func(d *twisted) {
		d.extents = func(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
			return d.Device.Extents(ctx, mc, off, n/2)
		}
	}},
	{name: "empty extent", caught: []string{"extents"}, twist: func(d *twisted) {
		d.extents = everyExtent(d, func(e block.Extent) block.Extent { e.Len = 0; return e })
	}},
	{name: "data said to be zeros", caught: []string{"extents", "history"}, twist: func(d *twisted) {
		d.extents = everyExtent(d, func(e block.Extent) block.Extent { e.Status = block.Zero; return e })
	}},
	{name: "unknown context", caught: []string{"extents"}, twist: func(d *twisted) {
		d.extents = func(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
			return d.Device.Extents(ctx, block.Allocation, off, n)
		}
	}},
	{name: "extents that do not stop", caught: []string{"extents"}, twist: func(d *twisted) {
		d.extents = func(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
			seq := d.Device.Extents(ctx, mc, off, n)
			return func(yield func(block.Extent, error) bool) {
				for e, err := range seq {
					yield(e, err)
				}
			}
		}
	}},
	{name: "lock held while extents are told", caught: []string{"extents inside"}, twist: func(d *twisted) {
		var mu sync.Mutex
		d.extents = func(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
			seq := d.Device.Extents(ctx, mc, off, n)
			return func(yield func(block.Extent, error) bool) {
				mu.Lock()
				defer mu.Unlock()
				seq(yield)
			}
		}
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			mu.Lock()
			defer mu.Unlock()
			return d.Device.WriteAt(ctx, p, off, flags)
		}
	}},
	{name: "not the cause of the cancellation", caught: []string{"cancel"}, twist: func(d *twisted) {
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return d.Device.ReadAt(ctx, p, off, flags)
		}
	}},
	{name: "cancelled and still said to be done", caught: []string{"cancel"}, twist: func(d *twisted) {
		d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
			if ctx.Err() != nil {
				return nil
			}
			return d.Device.Zero(ctx, off, n, flags)
		}
	}},
	{name: "would block without Info().NoWait", caught: []string{"nowait"}, twist: func(d *twisted) {
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if flags&block.NoWait != 0 {
				return block.ErrWouldBlock
			}
			return d.Device.ReadAt(ctx, p, off, flags)
		}
	}},
	{name: "NoWait that does nothing", caught: []string{"nowait", "history"}, info: block.Info{NoWait: true}, twist: func(d *twisted) {
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if err := d.Device.WriteAt(ctx, p, off, flags); !errors.Is(err, block.ErrWouldBlock) {
				return err
			}
			return nil
		}
	}},
	{name: "requests after Close", caught: []string{"close"}, twist: func(d *twisted) {
		d.flush = func(context.Context) error { return nil }
	}},
	{name: "Close twice", caught: []string{"close"}, twist: func(d *twisted) {
		d.close = func() error { d.Device.Close(); return nil }
	}},
	{name: "Close fails", caught: []string{"close", "read"}, twist: func(d *twisted) {
		d.close = func() error { return errors.Join(d.Device.Close(), block.ErrIO) }
	}},
	{name: "Close under requests", caught: []string{"close in flight"}, twist: func(d *twisted) {
		var closed atomic.Bool
		d.read = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if err := d.Device.ReadAt(ctx, p, off, flags); err == nil || !closed.Load() {
				return err
			}
			return syscall.EBADF
		}
		d.close = func() error { closed.Store(true); return d.Device.Close() }
	}},
	{name: "hangs", caught: []string{"flush"}, twist: func(d *twisted) {
		d.flush = func(context.Context) error { select {} }
	}},
}

// TestCrimes proves that the suite catches devices that break a promise.
func TestCrimes(t *testing.T) {
	byName := make(map[string]testCase)
	for _, c := range cases {
		byName[c.name] = c
	}
	for _, crime := range crimes {
		t.Run(crime.name, func(t *testing.T) {
			t.Parallel()
			s := &suite{seeds: 10, patience: 5 * time.Second, open: func(testing.TB) block.Device {
				info := crime.info
				info.Size = 1 << 20
				d := &twisted{Pass: block.Pass{Device: NewDevice(info)}}
				crime.twist(d)
				return d
			}}
			if crime.name == "hangs" || crime.name == "lock held while extents are told" {
				s.patience = 50 * time.Millisecond
			}
			for _, name := range crime.caught {
				err := s.test(t, byName[name])
				if err == nil || errors.Is(err, errSkip) {
					t.Errorf("%s: not caught, got %v", name, err)
				} else if testing.Verbose() {
					t.Logf("%s: %.600v", name, err)
				}
			}
		})
	}
}

func TestReopenForgets(t *testing.T) {
	s := &suite{patience: time.Minute, create: func(testing.TB) func() block.Device {
		return func() block.Device { return NewDevice(block.Info{Size: 1 << 20}) }
	}}
	err := testReopen(&probe{suite: s, t: t, ctx: t.Context()})
	if !errors.Is(err, ErrBroken) {
		t.Errorf("a device that forgets: %v", err)
	}
}

// newNull returns a device that zeroes what is written.
func newNull() block.Device {
	d := &twisted{Pass: block.Pass{Device: NewDevice(block.Info{Size: 1 << 20, FastZeros: true})}}
	d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
		return d.Device.Zero(ctx, off, int64(len(p)), 0)
	}
	return d
}

func TestLossy(t *testing.T) {
	open := func(testing.TB) block.Device { return newNull() }
	Run(t, open, Lossy())
	s := &suite{open: open, seeds: 1, patience: time.Minute}
	for _, name := range []string{"write", "neighbours", "history"} {
		for _, c := range cases {
			if c.name != name {
				continue
			}
			if err := s.test(t, c); !errors.Is(err, ErrBroken) {
				t.Errorf("%s: without Lossy got %v", name, err)
			}
		}
	}
}

func TestTimesVariable(t *testing.T) {
	for value, want := range map[string]int{"": 3, "1": 3, "20": 60, "0": 3, "-1": 3, "many": 3} {
		t.Setenv("BLOCKTEST_TIMES", value)
		if n := Times(3); n != want {
			t.Errorf("BLOCKTEST_TIMES=%s: 3 become %d, expected %d", value, n, want)
		}
	}
}

func TestSeedVariable(t *testing.T) {
	t.Setenv("BLOCKTEST_SEED", "17")
	t.Setenv("BLOCKTEST_TIMES", "")
	s := &suite{seeds: 4}
	if seeds, err := s.chosenSeeds(); err != nil || len(seeds) != 1 || seeds[0] != 17 {
		t.Errorf("seeds %v, %v", seeds, err)
	}
	os.Setenv("BLOCKTEST_SEED", "x")
	if _, err := s.chosenSeeds(); err == nil {
		t.Error("a seed that is not a number was accepted")
	}
}
