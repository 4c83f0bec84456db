package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/race"
)

const kib = 1 << 10

func newCache(t testing.TB, dev block.Device, size, blockSize int64) Cacher {
	t.Helper()
	return must[block.Device](t)(Cache(dev, CacheOptions{Size: size, Block: blockSize})).(Cacher)
}

// asked is a device of n bytes, not 0, that notes the reads it is asked for.
func asked(n int, info block.Info) (*shaped, func() []string) {
	var mu sync.Mutex
	var list []string
	s := newShaped(n, info)
	s.before = func(op Op, off, n int64, flags block.Flags) error {
		if op == OpRead {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, fmt.Sprintf("%d+%d", off, n))
		}
		return nil
	}
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		got := list
		list = nil
		return got
	}
}

func TestCacheConforms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		info block.Info
		o    CacheOptions
	}{
		{block.Info{}, CacheOptions{}},
		{block.Info{NoWait: true}, CacheOptions{Size: 3 * (4*kib + cacheOverhead), Block: 4 * kib}},
		{block.Info{MinBlock: 4096, MaxBlock: 12288}, CacheOptions{Size: 40 << 10, Block: 8 * kib}},
		{block.Info{ReadOnly: true}, CacheOptions{Size: 100 << 10, Block: 512}},
	} {
		t.Run(fmt.Sprintf("%+v", tt.o), func(t *testing.T) {
			t.Parallel()
			conform(t, func(t testing.TB) block.Device {
				return must[block.Device](t)(Cache(disks(tt.info, 144<<10)[0], tt.o))
			})
		})
	}
}

func TestCacheReadsWholeBlocksOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		off, n  int64
		maximum int
		want    string
	}{
		{5000, 10, 0, "[4096+4096]"},
		{4096, 4096, 0, "[4096+4096]"},
		{4096, 16 * kib, 0, "[4096+16384]"},
		{4095, 16 * kib, 0, "[0+4096 4096+12288 16384+4096]"},
		{36863, 5, 0, "[32768+4096 36864+1000]"},
		{37000, 864, 0, "[36864+1000]"},
		{5000, 10, 2048, "[4096+2048 6144+2048]"},
	} {
		disk, reads := asked(36*kib+1000, block.Info{MaxBlock: c.maximum})
		for i := range disk.bytes {
			disk.bytes[i] = byte(rand.Uint32())
		}
		dev := newCache(t, disk, 1<<20, 4*kib)
		for range 2 {
			p := make([]byte, c.n)
			if err := dev.ReadAt(t.Context(), p, c.off, 0); err != nil || !bytes.Equal(p, disk.bytes[c.off:c.off+c.n]) {
				t.Errorf("%d bytes at %d: wrong bytes or %v", c.n, c.off, err)
			}
		}
		if got := fmt.Sprint(reads()); got != c.want {
			t.Errorf("two reads of %d bytes at %d: device was asked for %v, want %v", c.n, c.off, got, c.want)
		}
		s := dev.CacheStats()
		if blocks := uint64((c.off+c.n-1)/4096 - c.off/4096 + 1); s.Hits != blocks || s.Misses != blocks || s.Bytes != int64(blocks)*4096 {
			t.Errorf("%d bytes at %d: %+v, want %d hits and misses", c.n, c.off, s, blocks)
		}
	}
}

func TestCacheWritesGoThroughAndAreRead(t *testing.T) {
	t.Parallel()
	disk, reads := asked(64*kib, block.Info{})
	dev := newCache(t, disk, 1<<20, 4*kib)
	content(t, dev)
	reads()
	p := bytes.Repeat([]byte{7}, 5000)
	if err := dev.WriteAt(t.Context(), p, 3000, 0); err != nil || !bytes.Equal(disk.bytes[3000:8000], p) {
		t.Fatalf("write did not go through: %v", err)
	}
	expect(t, dev, disk.bytes)
	if got := reads(); got != nil {
		t.Errorf("the device was asked for %v, which was in memory", got)
	}
	if err := dev.Zero(t.Context(), 4096, 100, block.FastZero); err != nil {
		t.Fatal(err)
	}
	expect(t, dev, disk.bytes)
	if got := fmt.Sprint(reads()); got != "[4096+4096]" {
		t.Errorf("the device was asked for %v, want what was zeroed", got)
	}
	disk.before = func(op Op, _, _ int64, _ block.Flags) error { return block.ErrNotSupported }
	if err := dev.Zero(t.Context(), 0, 64*kib, block.FastZero); !errors.Is(err, block.ErrNotSupported) || dev.CacheStats().Bytes != 64*kib {
		t.Errorf("a zero that changed nothing returned %v and left %d bytes in memory", err, dev.CacheStats().Bytes)
	}
}

// A stalling device waits after each read, with the bytes in hand, and before
// it returns from each change.
type stalling struct {
	block.Pass
	read, changed chan struct{} // receive to let it go on; nil does not wait
	failWrites    atomic.Bool
}

func (s *stalling) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := s.Device.ReadAt(ctx, p, off, flags)
	if s.read != nil {
		<-s.read
	}
	return err
}

func (s *stalling) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := s.Device.WriteAt(ctx, p, off, flags)
	if s.changed != nil {
		<-s.changed
	}
	if s.failWrites.Load() {
		return block.ErrIO
	}
	return err
}

// A read has the old bytes in hand, a change comes and returns, and only then
// the read ends. What it brought must not stay.
func TestCacheKeepsNothingThatALoadBringsTooLate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(ctx context.Context, d block.Device) error{
		"write":      func(ctx context.Context, d block.Device) error { return d.WriteAt(ctx, make([]byte, 10), 5000, 0) },
		"zero":       func(ctx context.Context, d block.Device) error { return d.Zero(ctx, 5000, 10, 0) },
		"trim":       func(ctx context.Context, d block.Device) error { return d.Trim(ctx, 5000, 10, 0) },
		"whole zero": func(ctx context.Context, d block.Device) error { return d.Zero(ctx, 0, 64*kib, 0) },
		"fault": func(ctx context.Context, d block.Device) error {
			if err := d.WriteAt(ctx, make([]byte, 10), 5000, 0); !errors.Is(err, block.ErrIO) {
				return fmt.Errorf("write returned %v", err)
			}
			return nil
		},
	} {
		for _, length := range []int{1, 4096, 16384} {
			t.Run(fmt.Sprint(name, length), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					disk := bytes.Repeat([]byte{1}, 64*kib)
					lower := &stalling{Pass: block.Pass{Device: trimming{block.Pass{Device: block.FromBytes(disk)}}}, read: make(chan struct{})}
					lower.failWrites.Store(name == "fault")
					dev := newCache(t, lower, 1<<20, 4*kib)
					var wg sync.WaitGroup
					for range 3 { // one loads, the others wait for it
						wg.Go(func() {
							if err := dev.ReadAt(t.Context(), make([]byte, length), 4096, 0); err != nil {
								t.Error(err)
							}
						})
					}
					synctest.Wait()
					if err := change(t.Context(), dev); err != nil {
						t.Fatal(err)
					}
					close(lower.read)
					wg.Wait()
					sound(t, dev)
					expect(t, dev, disk)
				})
			})
		}
	}
}

// trimming zeroes what is trimmed.
type trimming struct{ block.Pass }

func (d trimming) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.Zero(ctx, off, n, flags)
}

// The device is written but the write has not returned, and a block is loaded,
// or dropped and loaded, in between.
func TestCacheKeepsWhatIsLoadedDuringAWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := make([]byte, 64*kib)
		lower := &stalling{Pass: block.Pass{Device: block.FromBytes(disk)}, changed: make(chan struct{})}
		dev := newCache(t, lower, 2*(4*kib+cacheOverhead), 4*kib)
		ctx := t.Context()
		p := make([]byte, 1)
		_ = dev.ReadAt(ctx, p, 0, 0)
		var wg sync.WaitGroup
		wg.Go(func() { _ = dev.WriteAt(ctx, []byte{1}, 0, 0) })
		synctest.Wait()
		for i := range int64(8) { // drives the block out
			_ = dev.ReadAt(ctx, p, (i+1)*4*kib, 0)
		}
		_ = dev.ReadAt(ctx, p, 0, 0)
		disk[1] = 2 // not by the cache: only a loaded block still has the old byte
		close(lower.changed)
		wg.Wait()
		got := make([]byte, 2)
		_ = dev.ReadAt(ctx, got, 0, 0)
		if !bytes.Equal(got, []byte{1, 0}) {
			t.Errorf("read % x, want what was loaded with what was written", got)
		}
	})
}

// A change comes while a write that it overlaps has reached the device but not
// returned. The write must not put back into memory what the change undid.
func TestCacheOverlappingChangesTakeTurns(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(ctx context.Context, d block.Device) error{
		"zero": func(ctx context.Context, d block.Device) error { return d.Zero(ctx, 0, 10, 0) },
		"trim": func(ctx context.Context, d block.Device) error { return d.Trim(ctx, 0, 10, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := make([]byte, 64*kib)
				lower := &stalling{Pass: block.Pass{Device: trimming{block.Pass{Device: block.FromBytes(disk)}}}, changed: make(chan struct{})}
				dev := newCache(t, lower, 1<<20, 4*kib)
				ctx := t.Context()
				var wg sync.WaitGroup
				wg.Go(func() { _ = dev.WriteAt(ctx, []byte{1, 1}, 0, 0) })
				synctest.Wait()
				wg.Go(func() { _ = change(ctx, dev) })
				synctest.Wait()
				_ = dev.ReadAt(ctx, make([]byte, 1), 0, 0)
				tired, cancel := context.WithCancel(ctx)
				cancel()
				if err := change(tired, dev); !errors.Is(err, context.Canceled) {
					t.Errorf("a cancelled change that waits returned %v", err)
				}
				close(lower.changed)
				wg.Wait()
				expect(t, dev, disk)
			})
		})
	}
}

// sound checks that every block is where it belongs and none is lost.
func sound(t *testing.T, dev block.Device) {
	t.Helper()
	c := dev.(*cache)
	for n := range c.shards {
		s := &c.shards[n]
		queued, free := 0, 0
		for _, q := range []*cacheQueue{&s.recent, &s.often} {
			k := 0
			for b := q.root.prev; b != nil && b != &q.root; b = b.prev {
				if s.blocks[b.index] != b || b.queue != q || b.detached || b.done != nil {
					t.Errorf("shard %d: block %d is queued but not in memory", n, b.index)
				}
				k++
			}
			if k != q.n {
				t.Errorf("shard %d: a queue of %d blocks has %d", n, q.n, k)
			}
			queued += k
		}
		for b := s.free; b != nil; b = b.next {
			free++
		}
		if queued != len(s.blocks) || free != s.unused || s.made != queued+free || s.made > s.capacity {
			t.Errorf("shard %d: %d blocks made, %d in memory, %d queued, %d free, %d allowed", n, s.made, len(s.blocks), queued, free, s.capacity)
		}
		if len(s.left.at) > s.capacity || len(s.left.ring) > s.capacity {
			t.Errorf("shard %d: remembers %d blocks that left, of %d", n, len(s.left.at), s.capacity)
		}
	}
}

// Overlapping writes end in the cache as they do on the device, and a write
// that returned is seen, while a cache of a few blocks is turned over.
func TestCacheStaysCoherentInACrowd(t *testing.T) {
	t.Parallel()
	const size, own = 64 * kib, 8 * kib
	disk := make([]byte, size)
	lower := block.FromBytes(disk)
	dev := newCache(t, &yielding{block.Pass{Device: lower}}, 3*(4*kib+cacheOverhead), 4*kib)
	ctx := t.Context()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			p, q := make([]byte, 8), make([]byte, 3*kib)
			for n := range uint64(1500) {
				// Its own place, which shares blocks with the neighbours'.
				off := int64(rng.IntN(size/64))*64 + int64(g)*8
				binary.LittleEndian.PutUint64(p, n+1)
				if err := dev.WriteAt(ctx, p, off, 0); err != nil {
					t.Error(err)
				}
				if rng.IntN(4) == 0 {
					_ = dev.ReadAt(ctx, q, rng.Int64N(size-int64(len(q))), 0)
				}
				if err := dev.ReadAt(ctx, p, off, 0); err != nil || binary.LittleEndian.Uint64(p) != n+1 {
					t.Errorf("read %d at %d, want %d that was written before: %v", binary.LittleEndian.Uint64(p), off, n+1, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for round := range 300 {
		for g := range 4 {
			wg.Go(func() {
				off := int64(g%2) * 100
				switch {
				case round%5 == 0 && g == 0:
					_ = dev.Zero(ctx, off, own, 0)
				default:
					_ = dev.WriteAt(ctx, bytes.Repeat([]byte{byte(round), byte(g)}, own/2), off, 0)
				}
				_ = dev.ReadAt(ctx, make([]byte, own), off, 0)
			})
		}
		wg.Wait()
		expect(t, dev, disk)
	}
	sound(t, dev)
}

// yielding lets others run in the middle of each request.
type yielding struct{ block.Pass }

func (d *yielding) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	runtime.Gosched()
	defer runtime.Gosched()
	return d.Device.ReadAt(ctx, p, off, flags)
}

func (d *yielding) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	runtime.Gosched()
	defer runtime.Gosched()
	return d.Device.WriteAt(ctx, p, off, flags)
}

func TestCacheLoadsABlockOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk, reads := asked(64*kib, block.Info{})
		lower := &stalling{Pass: block.Pass{Device: disk}, read: make(chan struct{})}
		dev := newCache(t, lower, 1<<20, 4*kib)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				p := make([]byte, 10)
				if err := dev.ReadAt(t.Context(), p, int64(i), 0); err != nil || p[0] != 0xee {
					t.Errorf("read % x, %v", p, err)
				}
			})
		}
		synctest.Wait()
		why := errors.New("tired")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := dev.ReadAt(ctx, make([]byte, 1), 0, 0); !errors.Is(err, why) {
			t.Errorf("a cancelled read returned %v", err)
		}
		if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, block.NoWait); err != block.ErrWouldBlock {
			t.Errorf("a read with NoWait returned %v", err)
		}
		close(lower.read)
		wg.Wait()
		if got := fmt.Sprint(reads()); got != "[0+4096]" {
			t.Errorf("the device was asked for %v", got)
		}
	})
}

func TestCacheHidesFaultsOutsideOfWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	bad := must[block.Device](t)(Fault(block.FromBytes(make([]byte, 64*kib)), FaultOptions{Offset: 5000, Length: 1}))
	dev := newCache(t, bad, 1<<20, 4*kib)
	for range 2 {
		if err := dev.ReadAt(t.Context(), make([]byte, 100), 4096, 0); err != nil {
			t.Errorf("a read beside the fault returned %v", err)
		}
		if err := dev.ReadAt(t.Context(), make([]byte, 100), 4950, 0); !errors.Is(err, block.ErrIO) {
			t.Errorf("a read across the fault returned %v", err)
		}
		if err := dev.ReadAt(t.Context(), make([]byte, 8192), 0, 0); !errors.Is(err, block.ErrIO) {
			t.Errorf("a read of two blocks returned %v", err)
		}
	}
	if s := dev.CacheStats(); s.Bytes != 0 {
		t.Errorf("%d bytes are kept of what could not be read", s.Bytes)
	}
}

func TestCacheNoWait(t *testing.T) {
	disk, reads := asked(64*kib, block.Info{})
	dev := newCache(t, disk, 1<<20, 4*kib)
	p := make([]byte, 8192)
	if !dev.Info().NoWait {
		t.Error("NoWait is not offered")
	}
	_ = dev.ReadAt(t.Context(), p[:1], 0, 0)
	reads()
	if err := dev.ReadAt(t.Context(), p[:100], 5, block.NoWait); err != nil {
		t.Errorf("a hit returned %v", err)
	}
	if err := dev.ReadAt(t.Context(), p, 0, block.NoWait); err != block.ErrWouldBlock {
		t.Errorf("half a hit returned %v", err)
	}
	if err := dev.WriteAt(t.Context(), p, 0, block.NoWait); err != block.ErrWouldBlock {
		t.Errorf("a write returned %v", err)
	}
	if got := reads(); got != nil {
		t.Errorf("the device was asked for %v", got)
	}
	if s := dev.CacheStats(); s.Hits != 1 || s.Misses != 1 || s.Bytes != 4096 {
		t.Errorf("%+v, want one hit and one miss", s)
	}
}

func TestCacheHitAllocations(t *testing.T) {
	disk, _ := asked(64*kib, block.Info{})
	dev := newCache(t, disk, 1<<20, 4*kib)
	p := make([]byte, 4096)
	_ = dev.ReadAt(t.Context(), p, 0, 0)
	noAllocations(t, "a hit", func() {
		if err := dev.ReadAt(context.Background(), p, 0, block.NoWait); err != nil {
			t.Error(err)
		}
	})
}

func TestCacheKeepsWhatIsReadOftenDuringAScan(t *testing.T) {
	t.Parallel()
	disk, reads := asked(4<<20, block.Info{})
	dev := newCache(t, disk, 64*(4*kib+cacheOverhead), 4*kib)
	p := make([]byte, 512)
	hot := func() {
		for i := range int64(32) {
			_ = dev.ReadAt(t.Context(), p, i*4*kib, 0)
		}
	}
	scan := func() {
		for off := int64(1 << 20); off < 4<<20; off += 512 {
			_ = dev.ReadAt(t.Context(), p, off, 0)
		}
	}
	hot()
	for off := int64(256 * kib); off < 512*kib; off += 4 * kib {
		_ = dev.ReadAt(t.Context(), p, off, 0)
	}
	hot() // wanted again after they left
	scan()
	reads()
	hot()
	if got := reads(); got != nil {
		t.Errorf("a scan drove out %d of 32 blocks", len(got))
	}
}

func TestCacheHoldsADeviceOfItsSize(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{1, 4096, 100*kib + 5, 3 << 20} {
		disk, reads := asked(int(n), block.Info{})
		dev := newCache(t, disk, 8<<20, 4*kib)
		content(t, dev)
		reads()
		content(t, dev)
		if got := reads(); got != nil {
			t.Errorf("a device of %d bytes did not stay in a cache of 8 MiB: %v", n, got)
		}
		if s := dev.CacheStats(); s.Limit != (n+4095)&^4095 {
			t.Errorf("device has %d bytes, limit is %d", n, s.Limit)
		}
	}
}

func TestCacheUsesNoMoreMemoryThanAllowed(t *testing.T) {
	// Not in parallel with other tests: it looks at the heap.
	const limit = 2 << 20
	disk := block.Keep(newShaped(8<<20, block.Info{}))
	for _, blockSize := range []int64{512, 4 * kib, 64 * kib} {
		before := heap()
		dev := newCache(t, disk, limit, blockSize)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(g)))
				p := make([]byte, 128*kib)
				for range 500 {
					_ = dev.ReadAt(context.Background(), p[:rng.IntN(int(2*blockSize))], rng.Int64N(7<<20), 0)
				}
			})
		}
		wg.Wait()
		p := make([]byte, 1<<20)
		for off := int64(0); off < 8<<20; off += 1 << 20 {
			_ = dev.ReadAt(context.Background(), p, off, 0)
		}
		used := heap() - before
		sound(t, dev)
		s := dev.CacheStats()
		if s.Bytes > s.Limit || s.Limit > limit {
			t.Errorf("blocks of %d: %+v", blockSize, s)
		}
		t.Logf("blocks of %d: %d KiB on the heap for %d KiB of content", blockSize, used/kib, s.Bytes/kib)
		if used > limit+limit/20 && !race.Enabled {
			t.Errorf("blocks of %d: %d bytes on the heap, allowed are %d", blockSize, used, limit)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		if s := dev.CacheStats(); s.Bytes != 0 {
			t.Errorf("%d bytes are kept after Close", s.Bytes)
		}
		runtime.KeepAlive(dev)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestCacheWithoutRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newShaped(64*kib, block.Info{})
		lower := &stalling{Pass: block.Pass{Device: disk}, read: make(chan struct{})}
		dev := newCache(t, lower, 4*kib+cacheOverhead, 4*kib)
		var wg sync.WaitGroup
		for i := range int64(16) { // one has the block, the others go past it
			wg.Go(func() {
				p := make([]byte, 10)
				if err := dev.ReadAt(t.Context(), p, i*4*kib, 0); err != nil || p[9] != 0xee {
					t.Errorf("read % x, %v", p, err)
				}
			})
		}
		synctest.Wait()
		if s := dev.CacheStats(); s.Bytes != 4*kib {
			t.Errorf("%d bytes are in memory, allowed is one block", s.Bytes)
		}
		close(lower.read)
		wg.Wait()
	})
}

func TestCacheClose(t *testing.T) {
	t.Parallel()
	dev := newCache(t, block.FromBytes(make([]byte, 64*kib)), 1<<20, 4*kib)
	content(t, dev)
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	for op, err := range everyRequest(dev) {
		if !errors.Is(err, block.ErrClosed) {
			t.Errorf("%v of what was in memory returned %v", Op(op), err)
		}
	}
	if err := dev.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("a second Close returned %v", err)
	}
}

func TestCacheRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]CacheOptions{
		"cache: block is 5000, must be a power of two from 512 to 16777216":                          {Block: 5000},
		"cache: block is 256, must be a power of two from 512 to 16777216":                           {Block: 256},
		"cache: block is 33554432, must be a power of two from 512 to 16777216":                      {Block: 32 << 20},
		"cache: block is 512, must be at least 4096, the block size of the device":                   {Block: 512},
		"cache: size is 1000, must be at least 65792, which is one block and the bookkeeping for it": {Size: 1000},
		"cache: size is -1, must be at least 4352, which is one block and the bookkeeping for it":    {Size: -1, Block: 4096},
		"cache: block is -4096, must be a power of two from 512 to 16777216":                         {Block: -4096},
	} {
		if _, err := Cache(newShaped(64*kib, block.Info{MinBlock: 4096}), o); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func BenchmarkCacheHit(b *testing.B) {
	dev := newCache(b, block.FromBytes(make([]byte, 8<<20)), 64<<20, 0)
	_ = content(b, dev)
	b.Run("4 KiB", func(b *testing.B) { benchmarkRead(b, dev) })
	b.Run("memory itself", func(b *testing.B) { benchmarkRead(b, block.FromBytes(make([]byte, 8<<20))) })
	b.Run("write through", func(b *testing.B) { benchmarkWrite(b, dev) })
}

func BenchmarkCacheMiss(b *testing.B) {
	dev := newCache(b, block.FromBytes(make([]byte, 64<<20)), 1<<20, 0)
	p := make([]byte, 4096)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		_ = dev.ReadAt(b.Context(), p, i*13*64*kib%(64<<20), 0)
	}
}
