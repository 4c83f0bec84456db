package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// failTimes is a device whose next n requests fail with err.
func failTimes(n int, err error) *shaped {
	s := newShaped(64<<10, block.Info{NoWait: true})
	left := n
	s.before = func(Op, int64, int64, block.Flags) error {
		if left > 0 {
			left--
			return err
		}
		return nil
	}
	return s
}

func TestRetryConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		return must[block.Device](t)(Retry(disks(block.Info{NoWait: true}, 144<<10)[0], RetryOptions{}))
	})
}

// A device that fails now and then, with a retry over it, is as good as one
// that never does.
func TestRetryOverFaultsConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		bad := must[block.Device](t)(Fault(disks(block.Info{}, 144<<10)[0], FaultOptions{Ops: []string{"read", "write", "zero", "trim", "extents"}, Every: 7}))
		return must[block.Device](t)(Retry(bad, RetryOptions{Delay: time.Nanosecond, MaxDelay: time.Nanosecond}))
	})
}

func TestRetryRepeatsEachOperation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for op := range Op(numOps) {
			for _, flush := range []bool{false, true} {
				faults := must[block.Device](t)(Fault(block.FromBytes(make([]byte, 4096)), FaultOptions{Ops: []string{op.String()}, Nth: 1}))
				dev := must[block.Device](t)(Retry(faults, RetryOptions{Flush: flush}))
				begin := time.Now()
				for other, err := range everyRequest(dev) {
					if (err != nil) != (op == OpFlush && Op(other) == OpFlush && !flush) {
						t.Errorf("fault in %v, flush=%v: %v returned %v", op, flush, Op(other), err)
					}
				}
				if paused := time.Since(begin); paused != 100*time.Millisecond && (op != OpFlush || flush) {
					t.Errorf("paused for %v, want 100ms", paused)
				}
			}
		}
	})
}

func TestRetryBacksOffAndGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := must[block.Device](t)(Retry(failTimes(100, syscall.ETIMEDOUT), RetryOptions{Retries: 6, Delay: time.Second, MaxDelay: 5 * time.Second}))
		begin := time.Now()
		err := dev.ReadAt(t.Context(), make([]byte, 1), 0, 0)
		wantErr(t, err, syscall.ETIMEDOUT, "repeated 6 times: connection timed out")
		if got, want := time.Since(begin), (1+2+4+5+5+5)*time.Second; got != want {
			t.Errorf("gave up after %v, want %v", got, want)
		}
	})
}

func TestRetryChoosesByError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{block.ErrIO, true}, {io.ErrUnexpectedEOF, true}, {errors.New("anything"), true}, {block.ErrNoMemory, true},
		{syscall.ETIMEDOUT, true}, {syscall.ESHUTDOWN, true}, {fmt.Errorf("read: %w", syscall.ECONNRESET), true},
		{context.DeadlineExceeded, true},
		{block.ErrRange, false}, {block.ErrInvalid, false}, {block.ErrReadOnly, false}, {block.ErrNoSpace, false},
		{block.ErrClosed, false}, {fmt.Errorf("x: %w", block.ErrClosed), false}, {block.ErrPermission, false},
		{block.ErrNotSupported, false}, {block.ErrWouldBlock, false}, {syscall.EBADF, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			dev := must[block.Device](t)(Retry(failTimes(1, c.err), RetryOptions{}))
			err := dev.WriteAt(t.Context(), make([]byte, 1), 0, 0)
			if repeated := err == nil; repeated != c.want {
				t.Errorf("%v: repeated is %v, want %v", c.err, repeated, c.want)
			}
			if !c.want && err != c.err {
				t.Errorf("%v became %v", c.err, err)
			}
		})
	}
}

func TestRetryStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := must[block.Device](t)(Retry(failTimes(100, block.ErrIO), RetryOptions{Delay: time.Hour, MaxDelay: time.Hour}))
		why := errors.New("tired")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begin := time.Now()
		if err := dev.ReadAt(ctx, make([]byte, 1), 0, 0); !errors.Is(err, why) || time.Since(begin) != time.Second {
			t.Errorf("cancelled read returned %v after %v", err, time.Since(begin))
		}
		time.AfterFunc(time.Second, func() { dev.Close() })
		if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, 0); !errors.Is(err, block.ErrClosed) || time.Since(begin) != 2*time.Second {
			t.Errorf("read of a device that is closed returned %v after %v", err, time.Since(begin))
		}
	})
}

func TestRetryNeverPausesWithNoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := must[block.Device](t)(Retry(failTimes(1, block.ErrIO), RetryOptions{}))
		begin := time.Now()
		if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, block.NoWait); err != block.ErrWouldBlock || time.Since(begin) != 0 {
			t.Errorf("read with NoWait returned %v after %v", err, time.Since(begin))
		}
		disk := failTimes(1, block.ErrIO)
		disk.info.NoWait = false
		dev = must[block.Device](t)(Retry(disk, RetryOptions{}))
		if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, block.NoWait); err != nil {
			t.Errorf("read of a device that does not know NoWait returned %v", err)
		}
	})
}

func TestRetryExtentsGoOnWhereTheyStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newShaped(4096, block.Info{})
		var asked []string
		disk.extents = func(_ string, off, n int64) iter.Seq2[block.Extent, error] {
			asked = append(asked, fmt.Sprintf("%d+%d", off, n))
			return func(yield func(block.Extent, error) bool) {
				if yield(block.Extent{Off: off, Len: 1024}, nil) && off+1024 < 4096 {
					yield(block.Extent{}, block.ErrIO)
				}
			}
		}
		dev := must[block.Device](t)(Retry(disk, RetryOptions{}))
		if got := collect(t, dev, block.Allocation, 0, 4096); len(got) != 1 || got[0].Len != 4096 {
			t.Errorf("extents are %v", got)
		}
		if got := strings.Join(asked, " "); got != "0+4096 1024+3072 2048+2048 3072+1024" {
			t.Errorf("asked for %s", got)
		}
	})
}

func TestRetryRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]RetryOptions{
		"retry: retries is -1, delay is 0s and max_delay is 0s, must not be negative": {Retries: -1},
		"retry: max_delay is 1ns, must not be less than delay, which is 100ms":        {MaxDelay: 1},
	} {
		if _, err := Retry(nothing{}, o); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func TestRetryAllocatesNothing(t *testing.T) {
	passesFree(t, must[block.Device](t)(Retry(nothing{}, RetryOptions{})), 0, 512)
}

func BenchmarkRetry(b *testing.B) {
	benchmarkRead(b, must[block.Device](b)(Retry(nothing{}, RetryOptions{})))
}
