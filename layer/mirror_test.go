package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

func newMirror(t testing.TB, devs ...block.Device) block.Device {
	t.Helper()
	return must[block.Device](t)(Mirror(devs, MirrorOptions{}))
}

// failing fails every request of these kinds, and those of all kinds if none
// is given.
func failing(err error, ops ...Op) func(Op, int64, int64, block.Flags) error {
	return func(op Op, _, _ int64, _ block.Flags) error {
		if len(ops) == 0 || slices.Contains(ops, op) {
			return err
		}
		return nil
	}
}

// inUse checks which sides of a mirror are in use.
func inUse(t *testing.T, dev block.Device, want ...bool) {
	t.Helper()
	var got []bool
	for _, s := range MirrorSides(dev) {
		got = append(got, s.Err == nil)
	}
	if !slices.Equal(got, want) {
		t.Errorf("sides in use: %v, want %v", got, want)
	}
}

func TestMirrorRandom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		min   int
		sizes []int
	}{{1, []int{1}}, {1, []int{1000, 1100}}, {512, []int{5 * 512, 4 * 512, 9 * 512}}, {1, []int{300 << 10, 300 << 10}}} {
		all, devs := row(block.Info{MinBlock: tt.min}, tt.sizes...)
		dev := newMirror(t, devs...)
		want := content(t, dev)
		if len(want) != slices.Min(tt.sizes) {
			t.Errorf("size %d, sides %v", len(want), tt.sizes)
		}
		randomly(t, dev, want, 300, len(want))
		for i, s := range all {
			if !bytes.Equal(s.bytes[:len(want)], want) {
				t.Errorf("side %d of %v differs", i, tt.sizes)
			}
		}
	}
}

func TestMirrorConformance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		info  block.Info
		sizes []int
	}{
		"two":       {block.Info{NoWait: true}, []int{140_000, 140_100}},
		"three":     {block.Info{MinBlock: 512, MaxBlock: 4096}, []int{136 << 10, 136 << 10, 140 << 10}},
		"read-only": {block.Info{ReadOnly: true}, []int{140_000, 140_000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device { return newMirror(t, disks(tt.info, tt.sizes...)...) })
		})
	}
}

// A side that fails at any time goes unnoticed by those who use the mirror.
func TestMirrorConformanceWithFaults(t *testing.T) {
	t.Parallel()
	var next atomic.Int64
	conform(t, func(t testing.TB) block.Device {
		all, devs := row(block.Info{}, 140_000, 140_000)
		when := next.Add(7) % 100
		var count atomic.Int64
		all[when%2].before = func(Op, int64, int64, block.Flags) error {
			if count.Add(1) > when {
				return block.ErrIO
			}
			return nil
		}
		return newMirror(t, devs...)
	})
}

func TestMirrorInfo(t *testing.T) {
	t.Parallel()
	dev := newMirror(t, newShaped(10000, block.Info{MinBlock: 4096, Contexts: []string{"a:b"}, NoWait: true}),
		newShaped(9000, block.Info{Contexts: []string{"a:b"}, NoWait: true}))
	info := dev.Info()
	if info.Size != 8192 || info.MinBlock != 4096 || len(info.Contexts) != 0 || !info.NoWait {
		t.Errorf("info %+v", info)
	}
	_, err := Mirror(nil, MirrorOptions{})
	wantErr(t, err, block.ErrInvalid, "mirror: no devices were given, at least one is needed: invalid argument")
	if MirrorSides(newShaped(1, block.Info{})) != nil {
		t.Error("a device that is no mirror has sides")
	}
}

// A side that cannot do what another one can is left out, is told of once and
// never gets a request again.
func TestMirrorSideFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		op      Op
		request func(ctx context.Context, dev block.Device) error
	}{
		{OpWrite, func(ctx context.Context, dev block.Device) error { return dev.WriteAt(ctx, []byte{1}, 3, 0) }},
		{OpZero, func(ctx context.Context, dev block.Device) error { return dev.Zero(ctx, 3, 5, 0) }},
		{OpZero, func(ctx context.Context, dev block.Device) error { return dev.Zero(ctx, 3, 5, block.FastZero) }},
		{OpTrim, func(ctx context.Context, dev block.Device) error { return dev.Trim(ctx, 3, 5, 0) }},
		{OpFlush, func(ctx context.Context, dev block.Device) error { return dev.Flush(ctx) }},
		{OpRead, func(ctx context.Context, dev block.Device) error {
			for i := range 3 {
				if err := dev.ReadAt(ctx, make([]byte, 1), int64(i)<<regionBits, 0); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		for bad := range 3 {
			t.Run(fmt.Sprint(tt.op, bad), func(t *testing.T) {
				t.Parallel()
				const size = 3 << regionBits
				all, devs := row(block.Info{}, size, size, size)
				all[bad].before = failing(block.ErrIO, tt.op)
				var told []int
				dev := must[block.Device](t)(Mirror(devs, MirrorOptions{Failed: func(i int, err error) {
					told = append(told, i)
					if !errors.Is(err, block.ErrIO) || len(MirrorSides(devs[0])) != 0 {
						t.Errorf("told of %v", err)
					}
				}}))
				if err := tt.request(t.Context(), dev); err != nil {
					t.Fatal(err)
				}
				want := []bool{true, true, true}
				want[bad] = false
				inUse(t, dev, want...)
				if !slices.Equal(told, []int{bad}) {
					t.Errorf("told of %v", told)
				}
				all[bad].before = func(op Op, _, _ int64, _ block.Flags) error {
					t.Errorf("request %v to the side that failed", op)
					return nil
				}
				randomly(t, dev, content(t, dev), 100, 1000)
			})
		}
	}
}

// The last side in use is not given up: its errors are those of the device,
// and pass.
func TestMirrorLastSide(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 100, 100)
	dev := newMirror(t, devs...)
	all[0].before = failing(block.ErrIO)
	ctx := t.Context()
	if err := dev.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	all[1].before = failing(block.ErrNoSpace)
	for i, err := range []error{dev.WriteAt(ctx, []byte{1}, 0, 0), dev.ReadAt(ctx, make([]byte, 1), 0, 0),
		dev.Zero(ctx, 0, 1, 0), dev.Trim(ctx, 0, 1, 0), dev.Flush(ctx)} {
		if !errors.Is(err, block.ErrNoSpace) || err.Error() != "device 2 of 2: no space left on device" {
			t.Errorf("request %d: %v", i, err)
		}
	}
	inUse(t, dev, false, true)
	all[1].before = nil
	randomly(t, dev, content(t, dev), 50, 100)
}

// What happens when no side can do a request: only a change that may have
// been made in part leaves the sides different, and all but one out of use.
func TestMirrorAllFail(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	write := func(dev block.Device) error { return dev.WriteAt(ctx, make([]byte, 50), 0, 0) }
	for _, tt := range []struct {
		name    string
		errs    [3]error
		request func(block.Device) error
		in      []bool
		want    error
	}{
		{"write", [3]error{block.ErrIO, block.ErrIO, block.ErrNoSpace}, write, []bool{true, false, false}, block.ErrIO},
		{"refused write", [3]error{block.ErrPermission, block.ErrReadOnly, block.ErrInvalid}, write,
			[]bool{true, true, true}, block.ErrPermission},
		{"partly refused write", [3]error{block.ErrPermission, block.ErrIO, block.ErrIO}, write,
			[]bool{true, false, false}, block.ErrPermission},
		{"read", [3]error{block.ErrIO, block.ErrIO, block.ErrIO},
			func(dev block.Device) error { return dev.ReadAt(ctx, make([]byte, 5), 0, 0) }, []bool{true, true, true}, block.ErrIO},
		{"flush", [3]error{block.ErrIO, block.ErrNoSpace, block.ErrIO},
			func(dev block.Device) error { return dev.Flush(ctx) }, []bool{true, true, true}, block.ErrIO},
		{"trim", [3]error{block.ErrIO, block.ErrNoSpace, block.ErrIO},
			func(dev block.Device) error { return dev.Trim(ctx, 0, 5, 0) }, []bool{true, true, true}, block.ErrIO},
		{"fast zero", [3]error{block.ErrNotSupported, block.ErrIO, block.ErrIO},
			func(dev block.Device) error { return dev.Zero(ctx, 0, 5, block.FastZero) }, []bool{true, true, true}, block.ErrNotSupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all, devs := row(block.Info{}, 100, 100, 100)
			for i, s := range all {
				s.before = failing(tt.errs[i])
			}
			dev := newMirror(t, devs...)
			if err := tt.request(dev); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			inUse(t, dev, tt.in...)
		})
	}
}

// A mirror of which one side fails each n-th request in turn never loses a
// byte.
func TestMirrorEveryFault(t *testing.T) {
	t.Parallel()
	for bad := range 2 {
		for n := 0; ; n++ {
			all, devs := row(block.Info{}, 2000, 2000)
			var count atomic.Int64
			all[bad].before = func(Op, int64, int64, block.Flags) error {
				if count.Add(1) == int64(n+1) {
					return block.ErrIO
				}
				return nil
			}
			dev := newMirror(t, devs...)
			randomly(t, dev, bytes.Repeat([]byte{0xee}, 2000), 60, 2000)
			if count.Load() <= int64(n) {
				break
			}
			want := []bool{true, true}
			want[bad] = false
			inUse(t, dev, want...)
		}
	}
}

// Writes to the same place at the same time leave the same bytes on all sides,
// in whatever order each side would like to do them.
func TestMirrorOverlapping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, devs := row(block.Info{}, 64, 64, 64)
		for i, s := range all {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			var mu sync.Mutex
			s.before = func(op Op, off, n int64, _ block.Flags) error {
				mu.Lock()
				turn := rng.IntN(3)
				mu.Unlock()
				for range turn {
					time.Sleep(time.Microsecond)
				}
				return nil
			}
		}
		dev := newMirror(t, devs...)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(2, uint64(w)))
				for range 50 {
					off := rng.IntN(64)
					p := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(65-off))
					if err := dev.WriteAt(t.Context(), p, int64(off), 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for i, s := range all {
			if !bytes.Equal(s.bytes, all[0].bytes) {
				t.Errorf("side %d differs", i)
			}
		}
	})
}

// Cancelling a write does not leave it done on one side only.
func TestMirrorCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, devs := row(block.Info{}, 100, 100)
		gate := make(chan struct{})
		all[1].before = func(Op, int64, int64, block.Flags) error { <-gate; return nil }
		dev := newMirror(t, devs...)
		cause := errors.New("no more")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		first, second := make(chan error), make(chan error)
		go func() { first <- dev.WriteAt(ctx, bytes.Repeat([]byte{7}, 100), 0, 0) }()
		synctest.Wait()
		go func() { second <- dev.WriteAt(ctx, make([]byte, 10), 50, 0) }()
		synctest.Wait()
		cancel(cause)
		if err := <-second; err != cause {
			t.Errorf("the write that waits for the other one: %v, want %v", err, cause)
		}
		close(gate)
		if err := <-first; err != nil {
			t.Errorf("the write under way: %v", err)
		}
		if !bytes.Equal(all[0].bytes, all[1].bytes) {
			t.Error("the sides differ")
		}
		if err := dev.ReadAt(ctx, make([]byte, 1), 0, 0); err != nil && !errors.Is(err, cause) {
			t.Errorf("cancelled read: %v", err)
		}
		inUse(t, dev, true, true)
	})
}

// A cancelled read is not the side's fault.
func TestMirrorCancelledRead(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all, devs := row(block.Info{}, 100, 100)
	for _, s := range all {
		s.before = func(Op, int64, int64, block.Flags) error { cancel(); return context.Cause(ctx) }
	}
	dev := newMirror(t, devs...)
	if err := dev.ReadAt(ctx, make([]byte, 1), 0, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	inUse(t, dev, true, true)
}

func TestMirrorNoWait(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{NoWait: true}, 100, 100)
	dev := newMirror(t, devs...)
	if err := dev.WriteAt(t.Context(), make([]byte, 10), 0, block.NoWait); err != block.ErrWouldBlock {
		t.Errorf("write: %v", err)
	}
	if err := dev.ReadAt(t.Context(), make([]byte, 10), 0, block.NoWait); err != nil {
		t.Errorf("read: %v", err)
	}
	for _, s := range all {
		s.before = failing(block.ErrWouldBlock, OpRead)
	}
	if err := dev.ReadAt(t.Context(), make([]byte, 10), 0, block.NoWait); err != block.ErrWouldBlock {
		t.Errorf("read: %v", err)
	}
	inUse(t, dev, true, true)
	all, devs = row(block.Info{}, 100, 100)
	for _, s := range all {
		s.before = func(_ Op, _, _ int64, flags block.Flags) error {
			if flags&block.NoWait != 0 {
				t.Error("a write came with NoWait")
			}
			return nil
		}
	}
	if err := newMirror(t, devs...).WriteAt(t.Context(), make([]byte, 10), 0, block.NoWait); err != nil {
		t.Errorf("a device without NoWait: %v", err)
	}
}

// Sequential readers stay on one side each, random ones are shared out.
func TestMirrorBalance(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 1<<24, 1<<24)
	var count [2]int
	for i, s := range all {
		s.before = func(Op, int64, int64, block.Flags) error { count[i]++; return nil }
	}
	dev := newMirror(t, devs...)
	read := func(off int) {
		if err := dev.ReadAt(t.Context(), make([]byte, 100), int64(off), 0); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		read(rng.IntN(1<<24 - 100))
	}
	if min(count[0], count[1]) < 75 {
		t.Errorf("random reads went %v", count)
	}
	count = [2]int{}
	for i := range 100 {
		read(100 * i)
		read(5<<regionBits + 100*i)
	}
	if min(count[0], count[1]) < 90 {
		t.Errorf("sequential reads went %v", count)
	}
	sides := dev.(*mirror).sides
	for i := range 2 {
		sides[i].reads.Store(maxLead + 1)
		sides[1-i].reads.Store(0)
		sides[i].end.Store(500)
		if got := dev.(*mirror).choose(500); got != 1-i {
			t.Errorf("a busy side was chosen")
		}
	}
}

// A range is a hole if it is one on every side in use.
func TestMirrorExtents(t *testing.T) {
	t.Parallel()
	all, devs := row(block.Info{}, 100, 100, 100)
	all[0].extents, all[1].extents, all[2].extents = alternating(20), alternating(30), nil
	dev := newMirror(t, devs...)
	if got := collect(t, dev, block.Allocation, 0, 100); len(got) != 1 || got[0].Status != 0 {
		t.Errorf("with a side without holes: %v", got)
	}
	all[2].before = failing(block.ErrIO, OpFlush)
	if err := dev.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	hole := block.Hole | block.Zero
	want := []block.Extent{{Off: 5, Len: 25}, {Off: 30, Len: 10, Status: hole}, {Off: 40, Len: 55}}
	if got := collect(t, dev, block.Allocation, 5, 90); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	all[1].extents = func(string, int64, int64) iter.Seq2[block.Extent, error] { return block.FailExtents(block.ErrIO) }
	if got := collect(t, dev, block.Allocation, 0, 100); len(got) != 1 || got[0].Status != 0 {
		t.Errorf("with a side that cannot tell: %v", got)
	}
	all[0].extents = all[1].extents
	wantErr(t, firstError(dev.Extents(t.Context(), block.Allocation, 0, 100)), block.ErrIO, "device 2 of 3: input/output error")
	inUse(t, dev, true, true, false)
}

func TestMirrorNoAllocation(t *testing.T) {
	_, devs := row(block.Info{NoWait: true}, 8192, 8192)
	dev := newMirror(t, devs...)
	p := make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if err := dev.ReadAt(context.Background(), p, 0, block.NoWait); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkMirror(b *testing.B) {
	dev := newMirror(b, nothing{}, nothing{})
	b.Run("read", func(b *testing.B) { benchmarkRead(b, dev) })
	b.Run("write", func(b *testing.B) { benchmarkWrite(b, dev) })
}
