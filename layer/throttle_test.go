package layer

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

func newThrottle(t testing.TB, dev block.Device, o ThrottleOptions) Throttler {
	t.Helper()
	return must[block.Device](t)(Throttle(dev, o)).(Throttler)
}

func memory() block.Device { return block.FromBytes(make([]byte, 1<<20)) }

// took is how long f takes, to the microsecond.
func took(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin).Round(time.Microsecond)
}

func TestThrottleConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		return must[block.Device](t)(Throttle(disks(block.Info{NoWait: true}, 144<<10)[0], ThrottleOptions{Bytes: 1 << 40, Requests: 1e6}))
	})
}

func TestThrottleRates(t *testing.T) {
	t.Parallel()
	const k = 1 << 10
	type call = func(context.Context, block.Device) error
	read := func(n int) call {
		return func(ctx context.Context, d block.Device) error { return d.ReadAt(ctx, make([]byte, n), 0, 0) }
	}
	write := func(n int) call {
		return func(ctx context.Context, d block.Device) error { return d.WriteAt(ctx, make([]byte, n), 0, 0) }
	}
	zero := func(ctx context.Context, d block.Device) error { return d.Zero(ctx, 0, 1<<20, 0) }
	trim := func(ctx context.Context, d block.Device) error { return d.Trim(ctx, 0, 1<<20, 0) }
	flush := func(ctx context.Context, d block.Device) error { return d.Flush(ctx) }
	extents := func(ctx context.Context, d block.Device) error {
		return firstError(d.Extents(ctx, block.Allocation, 0, 1<<20))
	}
	for _, c := range []struct {
		name     string
		o        ThrottleOptions
		times    int
		requests []call
		want     time.Duration
	}{
		// A second's worth is saved up. One request more passes at once and
		// leaves a debt to the next.
		{"bytes", ThrottleOptions{Bytes: 4 * k}, 12, []call{read(k)}, 1750 * time.Millisecond},
		{"read_bytes", ThrottleOptions{ReadBytes: 4 * k}, 12, []call{read(k), write(k)}, 1750 * time.Millisecond},
		{"write_bytes", ThrottleOptions{WriteBytes: 4 * k}, 12, []call{read(k), write(k)}, 1750 * time.Millisecond},
		{"bytes of both", ThrottleOptions{Bytes: 4 * k}, 6, []call{read(k), write(k)}, 1750 * time.Millisecond},
		{"bytes without data", ThrottleOptions{Bytes: 1}, 20, []call{zero, trim, flush, extents}, 0},
		{"requests", ThrottleOptions{Requests: 4}, 2, []call{read(k), write(k), zero, trim, flush, extents}, 1750 * time.Millisecond},
		{"read_requests", ThrottleOptions{ReadRequests: 4}, 6, []call{read(k), write(k), extents}, 1750 * time.Millisecond},
		{"write_requests", ThrottleOptions{WriteRequests: 4}, 3, []call{read(k), write(k), zero, trim, flush, extents}, 1750 * time.Millisecond},
		{"fractions", ThrottleOptions{Requests: 0.5}, 3, []call{flush}, 3 * time.Second},
		{"several", ThrottleOptions{Bytes: 4 * k, Requests: 1000}, 12, []call{read(k)}, 1750 * time.Millisecond},
		{"burst", ThrottleOptions{Bytes: 4 * k, Burst: 2 * time.Second}, 16, []call{read(k)}, 1750 * time.Millisecond},
		{"larger than the burst", ThrottleOptions{Bytes: 4 * k, Burst: time.Millisecond}, 3, []call{read(8 * k)}, 4*time.Second - time.Millisecond},
		{"none", ThrottleOptions{}, 100, []call{read(k), write(k), zero, trim, flush, extents}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dev := newThrottle(t, memory(), c.o)
				got := took(func() {
					for range c.times {
						for _, request := range c.requests {
							if err := request(t.Context(), dev); err != nil {
								t.Error(err)
							}
						}
					}
				})
				if got != c.want {
					t.Errorf("took %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestThrottleChangesWhileRequestsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newThrottle(t, memory(), ThrottleOptions{Bytes: 1, Burst: time.Nanosecond})
		p := make([]byte, 1000)
		_ = dev.ReadAt(t.Context(), p, 0, 0)
		time.AfterFunc(10*time.Second, func() { _ = dev.Set(ThrottleOptions{Bytes: 99, Burst: time.Nanosecond}) })
		if got, want := took(func() { _ = dev.ReadAt(t.Context(), p, 0, 0) }), 20*time.Second; got != want {
			t.Errorf("waited for %v, want %v", got, want)
		}
		time.AfterFunc(time.Second, func() { _ = dev.Set(ThrottleOptions{}) })
		if got, want := took(func() { _ = dev.ReadAt(t.Context(), p, 0, 0) }), time.Second; got != want {
			t.Errorf("waited for %v for the limit to go, want %v", got, want)
		}
		if err := dev.Set(ThrottleOptions{Bytes: 1000}); err != nil {
			t.Fatal(err)
		}
		if got := took(func() { _ = dev.ReadAt(t.Context(), p, 0, 0) }); got != 0 {
			t.Errorf("a new limit begins with debts: waited for %v", got)
		}
	})
}

func TestThrottleSetCannotBeUsedToSaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newThrottle(t, memory(), ThrottleOptions{Requests: 1})
		got := took(func() {
			for range 10 {
				_ = dev.Flush(t.Context())
				_ = dev.Set(ThrottleOptions{Requests: 1})
			}
		})
		if want := 8 * time.Second; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
	})
}

func TestThrottleIsFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newThrottle(t, memory(), ThrottleOptions{Requests: 1, Burst: time.Nanosecond})
		_ = dev.Flush(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		var order []int
		for i := range 20 {
			wg.Go(func() {
				if err := dev.WriteAt(t.Context(), make([]byte, 1), 0, 0); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		wg.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("requests passed in the order %v", order)
			}
		}
	})
}

// A side that has no limit of its own does not wait for the other side's.
func TestThrottleSidesAreApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newThrottle(t, memory(), ThrottleOptions{WriteRequests: 0.001, ReadRequests: 10})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { _ = dev.Flush(ctx) })
		}
		synctest.Wait()
		if got := took(func() {
			for range 5 {
				_ = dev.ReadAt(ctx, make([]byte, 1), 0, 0)
			}
		}); got != 0 {
			t.Errorf("reads waited for %v behind writes", got)
		}
		cancel()
		wg.Wait()
	})
}

func TestThrottleStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newThrottle(t, memory(), ThrottleOptions{ReadRequests: 1e-6, WriteRequests: 1e-6})
		_ = dev.ReadAt(t.Context(), make([]byte, 1), 0, 0)
		for range 2 {
			_ = dev.Flush(t.Context())
		}
		why := errors.New("tired")
		ctx, cancel := context.WithCancelCause(t.Context())
		results := make(chan error)
		for range 3 {
			go func() { results <- dev.Flush(ctx) }()
		}
		synctest.Wait()
		cancel(why)
		for range 3 {
			if err := <-results; !errors.Is(err, why) {
				t.Errorf("a cancelled request returned %v", err)
			}
		}
		if err := dev.WriteAt(ctx, make([]byte, 1), 0, 0); !errors.Is(err, why) {
			t.Errorf("a cancelled write returned %v", err)
		}
		if err := dev.Zero(ctx, 0, 1, 0); !errors.Is(err, why) {
			t.Errorf("a cancelled zero returned %v", err)
		}
		if err := dev.Trim(ctx, 0, 1, 0); !errors.Is(err, why) {
			t.Errorf("a cancelled trim returned %v", err)
		}
		_ = firstError(dev.Extents(t.Context(), block.Allocation, 0, 1)) // the last that passes
		if err := firstError(dev.Extents(ctx, block.Allocation, 0, 1)); !errors.Is(err, why) {
			t.Errorf("cancelled extents returned %v", err)
		}
		for range 3 {
			go func() { results <- dev.Flush(t.Context()) }()
		}
		synctest.Wait()
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		for range 3 {
			if err := <-results; !errors.Is(err, block.ErrClosed) {
				t.Errorf("a request to a closed device returned %v", err)
			}
		}
		if err := dev.Close(); !errors.Is(err, block.ErrClosed) {
			t.Errorf("a second Close returned %v", err)
		}
	})
}

// Requests that were cancelled cost those behind them nothing.
func TestThrottleForgetsTheCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newThrottle(t, memory(), ThrottleOptions{Requests: 1, Burst: time.Nanosecond})
		_ = dev.Flush(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = dev.Flush(ctx) })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if got := took(func() { _ = dev.Flush(t.Context()) }); got != time.Second {
			t.Errorf("waited for %v, want 1s", got)
		}
	})
}

func TestThrottleNoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &waiting{Pass: block.Pass{Device: memory()}}
		dev := newThrottle(t, disk, ThrottleOptions{Bytes: 1000, Burst: time.Second})
		if !dev.Info().NoWait {
			t.Error("NoWait is not passed on")
		}
		p := make([]byte, 1000)
		// The disk blocks: nothing is used up, however often it is tried.
		for range 100 {
			if err := dev.ReadAt(t.Context(), p, 0, block.NoWait); err != block.ErrWouldBlock {
				t.Errorf("read returned %v", err)
			}
		}
		if got := took(func() {
			_ = dev.ReadAt(t.Context(), p, 0, 0)
			_ = dev.WriteAt(t.Context(), p, 0, block.NoWait)
		}); got != 0 {
			t.Errorf("waited for %v for what was never used", got)
		}
		disk.flags = 0
		if err := dev.ReadAt(t.Context(), p, 0, block.NoWait); err != block.ErrWouldBlock || disk.flags != 0 {
			t.Errorf("read without means returned %v, and the disk saw flags %b", err, disk.flags)
		}
		if got := took(func() { _ = dev.ReadAt(t.Context(), p, 0, 0) }); got != time.Second {
			t.Errorf("waited for %v, want 1s", got)
		}
		plain := newThrottle(t, newShaped(4096, block.Info{}), ThrottleOptions{Requests: 1, Burst: time.Nanosecond})
		_ = plain.Flush(t.Context())
		if err := plain.WriteAt(t.Context(), p, 0, block.NoWait); err != nil {
			t.Errorf("write to a device that does not know NoWait returned %v", err)
		}
	})
}

func TestThrottleRefusesBadOptions(t *testing.T) {
	t.Parallel()
	const want = "throttle: a limit is negative; 0 is no limit"
	dev := newThrottle(t, nothing{}, ThrottleOptions{})
	for _, o := range []ThrottleOptions{{Bytes: -1}, {WriteBytes: -1}, {Requests: -0.5}, {ReadRequests: math.NaN()}, {Burst: -1}} {
		if _, err := Throttle(nothing{}, o); err == nil || err.Error() != want {
			t.Errorf("%+v: error is %v", o, err)
		}
		if err := dev.Set(o); err == nil || err.Error() != want {
			t.Errorf("Set(%+v): error is %v", o, err)
		}
	}
}

func TestThrottleAllocatesNothing(t *testing.T) {
	passesFree(t, newThrottle(t, nothing{}, ThrottleOptions{}), 0, 512)
	passesFree(t, newThrottle(t, nothing{}, ThrottleOptions{Bytes: 1 << 50, Requests: 1e9}), 0, 512)
}

func BenchmarkThrottle(b *testing.B) {
	for name, o := range map[string]ThrottleOptions{
		"no limit": {}, "bytes": {Bytes: 1 << 50}, "all": {Bytes: 1 << 50, ReadBytes: 1 << 50, Requests: 1e9, ReadRequests: 1e9},
	} {
		b.Run(name, func(b *testing.B) { benchmarkRead(b, newThrottle(b, nothing{}, o)) })
	}
}
