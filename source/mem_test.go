package source_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/source"
	"pgregory.net/rapid"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
	eib = int64(1) << 60
)

func mustMem(t testing.TB, size int64) block.Device {
	t.Helper()
	d, err := source.Mem(t.Context(), source.MemOptions{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func extentsOf(t testing.TB, d block.Device, off, n int64) []block.Extent {
	t.Helper()
	var all []block.Extent
	for e, err := range d.Extents(context.Background(), block.Allocation, off, n) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

const hole = block.Hole | block.Zero

// A memory disk agrees with an array of bytes, and its extents are exact, for
// requests that cross pages and chunks.
func TestMemModel(t *testing.T) {
	t.Parallel()
	// A stretch around the border of two chunks, up to the end.
	const base, size = 2<<20 - 200_000, 2<<20 + 200_777
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		d, err := source.Mem(ctx, source.MemOptions{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		model := make([]byte, size-base)
		steps := rapid.IntRange(1, 12).Draw(t, "steps")
		for i := range steps {
			off := rapid.Int64Range(base, size).Draw(t, "off")
			n := min(size-off, rapid.Int64Range(0, size-base).Draw(t, "n"))
			part := model[off-base : off-base+n]
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				copy(part, bytes.Repeat([]byte{byte(i + 1)}, int(n)))
				err = d.WriteAt(ctx, part, off, block.NoWait)
			case 2:
				clear(part)
				err = d.Zero(ctx, off, n, block.NoHole)
			case 3:
				clear(part)
				err = d.Trim(ctx, off, n, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, size-base)
		if err := d.ReadAt(ctx, got, base, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, model) {
			t.Fatal("the disk differs from the model")
		}
		at := int64(base)
		for e, err := range d.Extents(ctx, block.Allocation, base, size-base) {
			if err != nil || e.Off != at || e.Len <= 0 {
				t.Fatalf("extent %v at %d: %v", e, at, err)
			}
			if e.Status == hole && !block.IsZero(model[e.Off-base:e.End()-base]) {
				t.Fatalf("extent %v is not zero", e)
			}
			at = e.End()
		}
		if at != size {
			t.Fatalf("extents end at %d", at)
		}
	})
}

// A disk of eight exbibytes works from end to end and costs what is written.
func TestMemHuge(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := mustMem(t, math.MaxInt64)
	places := []int64{0, 3*mib - 100, 5 * gib, eib + 12345, math.MaxInt64 - 1000}
	for i, off := range places {
		p := bytes.Repeat([]byte{byte(i + 1)}, 1000)
		if err := d.WriteAt(ctx, p, off, 0); err != nil {
			t.Fatal(err)
		}
		q := make([]byte, 1000)
		if err := d.ReadAt(ctx, q, off, 0); err != nil || !bytes.Equal(p, q) {
			t.Fatalf("at %d: %v", off, err)
		}
	}
	if got := extentsOf(t, d, 0, math.MaxInt64); len(got) != 2*len(places)-1 {
		t.Fatalf("%d extents: %v", len(got), got)
	}
	if err := d.Trim(ctx, 0, math.MaxInt64, 0); err != nil {
		t.Fatal(err)
	}
	got := extentsOf(t, d, 0, math.MaxInt64)
	if want := (block.Extent{Len: math.MaxInt64, Status: hole}); len(got) != 1 || got[0] != want {
		t.Fatalf("after trim: %v", got)
	}
}

func TestMemExtents(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := mustMem(t, gib)
	for _, off := range []int64{8 * kib, 2*mib - 1, 100 * mib} {
		if err := d.WriteAt(ctx, []byte{1, 2}, off, 0); err != nil {
			t.Fatal(err)
		}
	}
	want := []block.Extent{
		{Off: 1000, Len: 8*kib - 1000, Status: hole},
		{Off: 8 * kib, Len: 4 * kib},
		{Off: 12 * kib, Len: 2*mib - 16*kib, Status: hole},
		{Off: 2*mib - 4*kib, Len: 8 * kib},
		{Off: 2*mib + 4*kib, Len: 98*mib - 4*kib, Status: hole},
		{Off: 100 * mib, Len: 100},
	}
	got := extentsOf(t, d, 1000, 100*mib-900)
	if len(got) != len(want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("extent %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// resident returns the resident memory of the process in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	p, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(p))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * int64(os.Getpagesize())
}

// Scattered writes cost a page each, and trim gives the memory back. It does
// not run beside other tests, because it looks at the memory of the process.
func TestMemFootprint(t *testing.T) {
	ctx := t.Context()
	d := mustMem(t, 8*gib)
	p := bytes.Repeat([]byte{7}, 4096)
	before := resident(t)
	for off := int64(0); off < 8*gib; off += 2 * mib {
		if err := d.WriteAt(ctx, p, off, 0); err != nil {
			t.Fatal(err)
		}
	}
	if cost := resident(t) - before; cost < 16*mib || cost > 48*mib {
		t.Errorf("4096 scattered pages cost %d MiB", cost/mib)
	}
	big := bytes.Repeat([]byte{7}, 256<<20)
	if err := d.WriteAt(ctx, big, gib+4096, 0); err != nil {
		t.Fatal(err)
	}
	full := resident(t)
	if err := d.Trim(ctx, 0, 8*gib, 0); err != nil {
		t.Fatal(err)
	}
	if back := full - resident(t); back < 250*mib {
		t.Errorf("trim gave back %d MiB", back/mib)
	}
}

func TestMemBadSize(t *testing.T) {
	t.Parallel()
	_, err := source.Mem(t.Context(), source.MemOptions{Size: -1})
	if !errors.Is(err, block.ErrInvalid) || err.Error() != "mem: size -1 is negative: invalid argument" {
		t.Error(err)
	}
}

// Writers, trimmers and readers of the same few chunks do not trip over each
// other, and every page that a reader sees is of one writer.
func TestMemConcurrent(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := mustMem(t, 4*mib)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(w + 1)}, 4096)
			for i := range int64(500) {
				off := (i * 7919 * 4096) % (4 * mib)
				if err := d.WriteAt(ctx, p, off, 0); err != nil {
					t.Error(err)
				}
				if err := d.Trim(ctx, off&^(64*kib-1), 64*kib, 0); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			q := make([]byte, 4096)
			for i := range int64(500) {
				err := d.ReadAt(ctx, q, (i*4096)%(4*mib), block.NoWait)
				if err == block.ErrWouldBlock {
					continue
				}
				if err != nil || bytes.Count(q, q[:1]) != len(q) {
					t.Errorf("torn page, %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// Requests in steady state allocate nothing.
func TestMemAllocs(t *testing.T) {
	ctx := t.Context()
	d := mustMem(t, gib)
	p := make([]byte, 4096)
	for name, f := range map[string]func() error{
		"rewrite":   func() error { return d.WriteAt(ctx, p, 8192, block.NoWait) },
		"read":      func() error { return d.ReadAt(ctx, p, 8192, block.NoWait) },
		"read hole": func() error { return d.ReadAt(ctx, p, 900*mib, block.NoWait) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkMemRead4K(b *testing.B) {
	d := mustMem(b, gib)
	fill(b, d, 256*mib)
	bench4K(b, func(p []byte, off int64) error {
		return d.ReadAt(context.Background(), p, off%(256*mib), block.NoWait)
	})
}

func BenchmarkMemWrite4K(b *testing.B) {
	d := mustMem(b, gib)
	fill(b, d, 256*mib)
	bench4K(b, func(p []byte, off int64) error {
		return d.WriteAt(context.Background(), p, off%(256*mib), block.NoWait)
	})
}

func BenchmarkMemFill1M(b *testing.B) {
	d := mustMem(b, gib)
	p := make([]byte, mib)
	b.ReportAllocs()
	b.SetBytes(mib)
	off := int64(0)
	for b.Loop() {
		if off == gib {
			b.StopTimer()
			d.Trim(context.Background(), 0, gib, 0)
			off = 0
			b.StartTimer()
		}
		if err := d.WriteAt(context.Background(), p, off, 0); err != nil {
			b.Fatal(err)
		}
		off += mib
	}
}

// fill writes the first n bytes of d.
func fill(b *testing.B, d block.Device, n int64) {
	b.Helper()
	p := bytes.Repeat([]byte{1}, int(mib))
	for off := int64(0); off < n; off += mib {
		if err := d.WriteAt(context.Background(), p, off, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// bench4K calls f with a page and offsets in an order that caches dislike.
func bench4K(b *testing.B, f func(p []byte, off int64) error) {
	b.Helper()
	p := make([]byte, 4096)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		if err := f(p, off); err != nil {
			b.Fatal(err)
		}
		off = (off + 7919*4096) & (1<<40 - 1)
	}
}
