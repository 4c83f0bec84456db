package layer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

func TestDelayConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		return must[block.Device](t)(Delay(disks(block.Info{NoWait: true}, 144<<10)[0], DelayOptions{Write: time.Nanosecond, Flush: time.Nanosecond}))
	})
}

func TestDelayOfEachOperation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := must[block.Device](t)(Delay(block.FromBytes(make([]byte, 4096)), DelayOptions{
			All: time.Second, Read: 1 * time.Minute, Write: 2 * time.Minute, Zero: 3 * time.Minute,
			Trim: 4 * time.Minute, Flush: 5 * time.Minute, Extents: 6 * time.Minute,
		}))
		begin := time.Now()
		if err := errors.Join(func() []error { e := everyRequest(dev); return e[:] }()...); err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(begin), 21*time.Minute+6*time.Second; got != want {
			t.Errorf("one request of each kind took %v, want %v", got, want)
		}
		begin = time.Now()
		_ = dev.ReadAt(t.Context(), make([]byte, 1), 0, 0)
		if got, want := time.Since(begin), time.Minute+time.Second; got != want {
			t.Errorf("a read took %v, want %v", got, want)
		}
	})
}

func TestDelayJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := must[block.Device](t)(Delay(block.FromBytes(make([]byte, 4096)), DelayOptions{Read: time.Second, Jitter: time.Second}))
		seen := map[time.Duration]bool{}
		for range 20 {
			begin := time.Now()
			_ = dev.ReadAt(t.Context(), make([]byte, 1), 0, 0)
			d := time.Since(begin)
			if d < time.Second || d > 2*time.Second {
				t.Errorf("a read took %v, want from 1s to 2s", d)
			}
			seen[d] = true
		}
		if len(seen) < 2 {
			t.Error("every delay was the same")
		}
	})
}

func TestDelayIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := must[block.Device](t)(Delay(block.FromBytes(make([]byte, 4096)), DelayOptions{Read: time.Hour}))
		why := errors.New("tired")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begin := time.Now()
		err := dev.ReadAt(ctx, make([]byte, 1), 0, 0)
		if !errors.Is(err, why) || time.Since(begin) != time.Second {
			t.Errorf("read returned %v after %v", err, time.Since(begin))
		}
	})
}

func TestDelayNoWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    DelayOptions
		want bool
	}{
		{DelayOptions{Flush: 1, Zero: 1, Trim: 1, Extents: 1}, true},
		{DelayOptions{Read: 1}, false}, {DelayOptions{Write: 1}, false},
		{DelayOptions{All: 1}, false}, {DelayOptions{Jitter: 1}, false},
	} {
		if got := must[block.Device](t)(Delay(nothing{}, c.o)).Info().NoWait; got != c.want {
			t.Errorf("%+v: NoWait is %v", c.o, got)
		}
	}
}

func TestDelayRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]DelayOptions{
		"delay: no time given: set all, read, write, zero, trim, flush, extents or jitter": {},
		"delay: a time is negative": {Flush: -1},
	} {
		if _, err := Delay(nothing{}, o); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func BenchmarkDelayOfOthers(b *testing.B) {
	benchmarkRead(b, must[block.Device](b)(Delay(nothing{}, DelayOptions{Flush: time.Second})))
}
