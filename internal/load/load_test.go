package load

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/block"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// probe is a disk that notes the requests made to it.
type probe struct {
	block.Pass
	mu       sync.Mutex
	offsets  []int64
	inFlight int
	deepest  int
	answer   func(write bool, off int64) error
}

func newProbe(size int) *probe {
	return &probe{Pass: block.Pass{Device: block.FromBytes(make([]byte, size))}}
}

func (d *probe) enter(write bool, off int64) error {
	d.mu.Lock()
	d.offsets = append(d.offsets, off)
	d.inFlight++
	d.deepest = max(d.deepest, d.inFlight)
	d.mu.Unlock()
	if d.answer != nil {
		return d.answer(write, off)
	}
	return nil
}

func (d *probe) leave() {
	d.mu.Lock()
	d.inFlight--
	d.mu.Unlock()
}

func (d *probe) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	defer d.leave()
	if err := d.enter(false, off); err != nil {
		return err
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *probe) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	defer d.leave()
	if err := d.enter(true, off); err != nil {
		return err
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func TestSequential(t *testing.T) {
	t.Parallel()
	d := newProbe(4 * 512)
	r, err := Run(t.Context(), []block.Device{d}, Options{Reads: 100, Sequential: true, Size: 512, Depth: 1, Requests: 6})
	if err != nil {
		t.Fatal(err)
	}
	for i, off := range d.offsets {
		if off != int64(i%4*512) {
			t.Fatalf("offsets %v, want them in order and round again", d.offsets)
		}
	}
	if r.Read.Requests != 6 || r.Read.Bytes != 6*512 || r.Write != nil {
		t.Errorf("result %+v, want 6 reads and no writes", r)
	}
	if l := r.Read.Latency; l.Min <= 0 || l.Min > l.P50 || l.P50 > l.P99 || l.P99 > l.Max {
		t.Errorf("latencies are out of order: %+v", l)
	}
}

func TestSeedRepeats(t *testing.T) {
	t.Parallel()
	offsets := func(seed uint64) []int64 {
		d := newProbe(1 << 20)
		if _, err := Run(t.Context(), []block.Device{d}, Options{Reads: 50, Size: 4096, Depth: 1, Requests: 50, Seed: seed}); err != nil {
			t.Fatal(err)
		}
		return d.offsets
	}
	one, again, two := offsets(1), offsets(1), offsets(2)
	same := 0
	for i := range one {
		if one[i] != again[i] {
			t.Fatal("the same seed made other requests")
		}
		if one[i] == two[i] {
			same++
		}
	}
	if same > 25 {
		t.Errorf("another seed made %d of 50 requests the same", same)
	}
}

func TestMixAndDepth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newProbe(1<<20), newProbe(1<<20)
		slow := func(bool, int64) error { time.Sleep(time.Millisecond); return nil }
		a.answer, b.answer = slow, slow
		r, err := Run(t.Context(), []block.Device{a, b}, Options{Reads: 70, Size: 4096, Depth: 8, Duration: time.Second, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		if a.deepest != 8 || b.deepest != 8 {
			t.Errorf("%d and %d requests in flight, want 8 and 8", a.deepest, b.deepest)
		}
		all := r.Read.Requests + r.Write.Requests
		if all < 15900 || all > 16016 || r.Elapsed < time.Second || r.Elapsed > time.Second+2*time.Millisecond {
			t.Errorf("%d requests in %v, want 16 a millisecond for a second", all, r.Elapsed)
		}
		if share := float64(r.Read.Requests) / float64(all); share < 0.65 || share > 0.75 {
			t.Errorf("%.2f of the requests are reads, want 0.70", share)
		}
		if p := r.Read.Latency.P99; p < 990*time.Microsecond || p > 1010*time.Microsecond {
			t.Errorf("p99 %v, want 1ms", p)
		}
	})
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for _, sequential := range []bool{false, true} {
		o := Options{Reads: 50, Size: 4096, Depth: 4, Requests: 2000, Verify: true, Sequential: sequential}
		good := block.FromBytes(make([]byte, 37*4096))
		if _, err := Run(t.Context(), []block.Device{good, good}, o); err != nil {
			t.Errorf("sequential %v: %v", sequential, err)
		}
		_, err := Run(t.Context(), []block.Device{forgetful{block.Pass{Device: good}}}, o)
		if err == nil || !strings.Contains(err.Error(), "was written there") {
			t.Errorf("sequential %v: a disk that loses writes: %v", sequential, err)
		}
	}
}

// forgetful loses every write to the second half of its disk.
type forgetful struct{ block.Pass }

func (d forgetful) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if off >= d.Info().Size/2 {
		return nil
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	disk := block.FromBytes(make([]byte, 8192))
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Reads: 101, Size: 512, Depth: 1}, "101% reads: want 0 to 100"},
		{Options{Size: 0, Depth: 1}, "requests of 0 bytes"},
		{Options{Size: 512, Depth: 0}, "0 requests in flight"},
		{Options{Size: 512, Depth: 1, Duration: -1}, "cannot be negative"},
		{Options{Size: 12, Depth: 1, Verify: true}, "multiple of 8"},
		{Options{Size: 4096, Depth: 3, Verify: true}, "it has room for 2"},
		{Options{Size: 16384, Depth: 1}, "does not fit"},
		{Options{Size: MaxSize, Depth: MaxDepth}, "want at most 4294967296 bytes"},
	} {
		if _, err := Run(t.Context(), []block.Device{disk}, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c.o, err, c.want)
		}
	}
	fixed := block.FromReaderAt(strings.NewReader("12345678"), 8)
	if _, err := Run(t.Context(), []block.Device{fixed}, Options{Reads: 50, Size: 8, Depth: 1}); !errors.Is(err, block.ErrReadOnly) {
		t.Errorf("writes to a read-only device: %v", err)
	}
}

func TestFailureAndCancel(t *testing.T) {
	t.Parallel()
	d := newProbe(8192)
	d.answer = func(write bool, off int64) error { return block.ErrIO }
	_, err := Run(t.Context(), []block.Device{d}, Options{Reads: 100, Size: 4096, Depth: 4})
	if !errors.Is(err, block.ErrIO) || !strings.HasPrefix(err.Error(), "read of 4096 bytes at offset") {
		t.Errorf("a failing disk: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	d.answer = func(bool, int64) error { cancel(stop); return nil }
	if _, err := Run(ctx, []block.Device{d}, Options{Size: 4096, Depth: 4}); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v, want the cause", err)
	}
}

func TestNoAllocationPerRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("counts allocations of the whole process")
	}
	disk := block.FromBytes(make([]byte, 1<<20))
	allocations := func(n int64) float64 {
		return testing.AllocsPerRun(3, func() {
			if _, err := Run(t.Context(), []block.Device{disk}, Options{Reads: 50, Size: 512, Depth: 1, Requests: n}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocations(100), allocations(5100); many-few > 50 {
		t.Errorf("%v allocations for 5000 more requests", many-few)
	}
}
