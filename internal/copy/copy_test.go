package copy

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/strata-storage/strata/block"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is memory with limits that it enforces and extents that may begin and
// end anywhere.
type disk struct {
	block.Pass
	info    block.Info
	bytes   []byte
	extents []block.Extent

	mu      sync.Mutex
	written int64 // bytes of WriteAt
	zeroed  int64 // bytes of Zero
	flushes int
	dirty   bool // changed since the last flush
	fail    func(op string, off int64) error
}

func newDisk(p []byte, info block.Info) *disk {
	info.Size = int64(len(p))
	return &disk{Pass: block.Pass{Device: block.FromBytes(p)}, info: info, bytes: p}
}

func (d *disk) Info() block.Info { return d.info }

func (d *disk) check(op string, off int64) error {
	if d.fail != nil {
		return d.fail(op, off)
	}
	return nil
}

func (d *disk) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := errors.Join(d.info.CheckRead(off, len(p)), d.check("read", off)); err != nil {
		return err
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *disk) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := errors.Join(d.info.CheckWrite(off, len(p)), d.check("write", off)); err != nil {
		return err
	}
	d.mu.Lock()
	d.written, d.dirty = d.written+int64(len(p)), true
	d.mu.Unlock()
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func (d *disk) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := errors.Join(d.info.CheckChange(off, n), d.check("zero", off)); err != nil {
		return err
	}
	d.mu.Lock()
	d.zeroed, d.dirty = d.zeroed+n, true
	d.mu.Unlock()
	return d.Pass.Zero(ctx, off, n, flags)
}

func (d *disk) Flush(ctx context.Context) error {
	if err := d.check("flush", 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushes, d.dirty = d.flushes+1, false
	return nil
}

func (d *disk) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := d.check("extents", off); err != nil {
		return block.FailExtents(err)
	}
	return func(yield func(block.Extent, error) bool) {
		for _, e := range d.extents {
			lo, hi := max(e.Off, off), min(e.End(), off+n)
			if lo < hi && !yield(block.Extent{Off: lo, Len: hi - lo, Status: e.Status}, nil) {
				return
			}
		}
	}
}

// sparseDisk draws a disk of data, of holes, and of zeros that are stored.
func sparseDisk(t *rapid.T, info block.Info) *disk {
	unit := max(info.MinBlock, 1)
	p := make([]byte, unit*rapid.IntRange(0, 300<<10/unit).Draw(t, "size"))
	d := newDisk(p, info)
	for off := 0; off < len(p); {
		n := min(rapid.IntRange(1, 60<<10).Draw(t, "extent"), len(p)-off)
		e := block.Extent{Off: int64(off), Len: int64(n)}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			e.Status = block.Hole | block.Zero
		case 1:
			for i := range p[off : off+n] {
				p[off+i] = byte(off+i)%250 + 1
			}
		}
		d.extents = append(d.extents, e)
		off += n
	}
	return d
}

func drawInfo(t *rapid.T, who string) block.Info {
	minBlock := rapid.SampledFrom([]int{0, 1, 512, 4096, 64 << 10}).Draw(t, who+" unit")
	return block.Info{
		MinBlock:     minBlock,
		MaxBlock:     max(minBlock, 1) * rapid.SampledFrom([]int{0, 1, 3, 1 << 12}).Draw(t, who+" longest"),
		CheapExtents: rapid.Bool().Draw(t, who+" extents"),
	}
}

func TestCopyIsEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		src := sparseDisk(t, drawInfo(t, "source"))
		to := drawInfo(t, "destination")
		size := roundUp(src.info.Size, int64(max(to.MinBlock, 1))) + int64(max(to.MinBlock, 1))*rapid.Int64Range(0, 2).Draw(t, "extra")
		o := Options{
			InFlight: rapid.IntRange(0, 5).Draw(t, "in flight"),
			Request:  rapid.SampledFrom([]int{0, 512, 5000, 32 << 10}).Draw(t, "request"),
			Sparse:   rapid.SampledFrom([]int{-1, 0, 1, 512, 4096}).Draw(t, "sparse"),
			Zeroed:   rapid.Bool().Draw(t, "zeroed"),
			Progress: new(Progress),
		}
		p := bytes.Repeat([]byte{0xee}, int(size))
		if o.Zeroed {
			clear(p)
		}
		dst := newDisk(p, to)
		if err := Devices(t.Context(), dst, src, o); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst.bytes[:len(src.bytes)], src.bytes) {
			t.Fatal("the copy differs")
		}
		if dst.dirty || dst.flushes != 1 {
			t.Fatalf("not flushed at the end: %d flushes", dst.flushes)
		}
		if o.Zeroed && dst.zeroed > 0 {
			t.Fatalf("zeroed %d bytes of a destination that is zero", dst.zeroed)
		}
		if done := o.Progress.Done.Load(); done < src.info.Size || done-src.info.Size >= int64(max(to.MinBlock, 1)) {
			t.Fatalf("progress says %d of %d", done, src.info.Size)
		}
		if err := Verify(t.Context(), dst, src, o); err != nil {
			t.Fatal(err)
		}
		if len(src.bytes) == 0 {
			return
		}
		at := rapid.IntRange(0, len(src.bytes)-1).Draw(t, "damage")
		dst.bytes[at] ^= 1
		var d *Difference
		if err := Verify(t.Context(), dst, src, o); !errors.As(err, &d) || d.Off != int64(at) {
			t.Fatalf("verify of a copy with byte %d changed: %v", at, err)
		}
	})
}

func TestHolesAreNotRead(t *testing.T) {
	t.Parallel()
	src := newDisk(make([]byte, 8<<20), block.Info{CheapExtents: true})
	src.extents = []block.Extent{{Off: 0, Len: 1 << 20}, {Off: 1 << 20, Len: 7 << 20, Status: block.Zero}}
	var read atomic.Int64
	src.fail = func(op string, off int64) error {
		if op == "read" {
			read.Add(DefaultRequest)
		}
		return nil
	}
	dst := newDisk(make([]byte, 8<<20), block.Info{})
	if err := Devices(t.Context(), dst, src, Options{Sparse: -1}); err != nil {
		t.Fatal(err)
	}
	if read.Load() != 1<<20 || dst.written != 1<<20 || dst.zeroed != 7<<20 {
		t.Errorf("read %d, wrote %d, zeroed %d; want 1, 1 and 7 MiB", read.Load(), dst.written, dst.zeroed)
	}
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	big, small := newDisk(make([]byte, 8192), block.Info{}), newDisk(make([]byte, 4096), block.Info{})
	fixed := newDisk(make([]byte, 8192), block.Info{ReadOnly: true})
	for _, c := range []struct {
		dst, src block.Device
		o        Options
		want     string
	}{
		{small, big, Options{}, "the destination is too small: it has 4096 bytes, the source 8192"},
		{fixed, big, Options{}, "the destination: read-only file system"},
		{big, small, Options{InFlight: -1}, "-1 requests in flight: want 1 to 256"},
		{big, small, Options{Request: 1}, "requests of 1 bytes: want 512 to 16777216"},
	} {
		err := Devices(t.Context(), c.dst, c.src, c.o)
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if err := Verify(t.Context(), small, big, Options{}); !errors.Is(err, ErrTooSmall) {
		t.Errorf("verify: %v, want ErrTooSmall", err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for op, want := range map[string]string{
		"extents": "find the holes of the source at offset 0: no space left on device",
		"read":    "read 262144 bytes at offset 262144 of the source: no space left on device",
		"write":   "write 262144 bytes at offset 262144 of the destination: no space left on device",
		"zero":    "zero 262144 bytes at offset 524288 of the destination: no space left on device",
		"flush":   "flush the destination: no space left on device",
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			src := newDisk(bytes.Repeat([]byte{1}, 768<<10), block.Info{CheapExtents: true})
			src.extents = []block.Extent{{Off: 0, Len: 512 << 10}, {Off: 512 << 10, Len: 256 << 10, Status: block.Zero}}
			dst := newDisk(make([]byte, 768<<10), block.Info{})
			fail := func(at string, off int64) error {
				if at == op && (off > 0 || at == "extents" || at == "flush") {
					return block.ErrNoSpace
				}
				return nil
			}
			src.fail, dst.fail = fail, fail
			err := Devices(t.Context(), dst, src, Options{Request: 256 << 10})
			if err == nil || err.Error() != want || !errors.Is(err, block.ErrNoSpace) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	src := newDisk(bytes.Repeat([]byte{1}, 8<<20), block.Info{})
	dst := newDisk(make([]byte, 8<<20), block.Info{})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	var writes, after atomic.Int64
	dst.fail = func(op string, off int64) error {
		if writes.Add(1) == 5 {
			cancel(stop)
		} else if context.Cause(ctx) != nil {
			after.Add(1)
		}
		return nil
	}
	if err := Devices(ctx, dst, src, Options{InFlight: 4}); !errors.Is(err, stop) {
		t.Fatalf("got %v, want the cause", err)
	}
	if after.Load() > 4 {
		t.Errorf("%d requests after the cancel", after.Load())
	}
	if dst.flushes > 0 {
		t.Error("flushed a copy that was cancelled")
	}
}

func TestAlignedBuffer(t *testing.T) {
	t.Parallel()
	for n := 1; n < 10000; n += 999 {
		if b := alignedBuffer(n); len(b) != n || !strings.HasSuffix(addressOf(b), "000") {
			t.Errorf("%d bytes at %s", len(b), addressOf(b))
		}
	}
}
