package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"golang.org/x/sys/unix"
)

func newCow(t testing.TB, base block.Device, o CowOptions) block.Device {
	t.Helper()
	return must[block.Device](t)(Cow(base, o))
}

func TestCow(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		return newCow(t, block.FromBytes(bytes.Repeat([]byte{7}, 1<<20)), CowOptions{Diff: filepath.Join(t.TempDir(), "x.cow")})
	})
}

// Two cows over one base keep apart what is written to them, for good, and the
// base as it is.
func TestCowsShareBase(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	base := newShaped(300_000, block.Info{NoWait: true})
	base.before = func(op Op, _, _ int64, _ block.Flags) error {
		if op != OpRead {
			t.Errorf("the base gets operation %d", op)
		}
		return nil
	}
	for round := range 3 {
		for _, name := range []string{"a", "b"} {
			d := newCow(t, block.Keep(base), CowOptions{Diff: filepath.Join(dir, name)})
			p := make([]byte, 1000)
			if err := d.ReadAt(ctx, p, 5000, 0); err != nil {
				t.Fatal(err)
			}
			want := bytes.Repeat([]byte{0xee}, 1000)
			if round > 0 {
				want = bytes.Repeat([]byte{name[0]}, 1000)
			}
			if !bytes.Equal(p, want) {
				t.Fatalf("round %d: %s reads as %x", round, name, p[:8])
			}
			if err := d.WriteAt(ctx, bytes.Repeat([]byte{name[0]}, 1000), 5000, 0); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(base.bytes, bytes.Repeat([]byte{0xee}, 300_000)) {
		t.Error("the base has changed")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// The difference file is as large as what was written, give or take a little.
func TestCowSpace(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "x.cow")
	d := newCow(t, block.FromReaderAt(zeroReader{}, 1<<40), CowOptions{Diff: path})
	defer d.Close()
	const n = 1000
	for i := range int64(n) {
		if err := d.WriteAt(ctx, bytes.Repeat([]byte{1}, 4096), i*i*4096, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, path); got < n*4096 || got > n*4096*5/4 {
		t.Errorf("%d bytes written take %d", n*4096, got)
	}
	// All of it can be thrown away at once.
	if err := d.Trim(ctx, 0, 1<<40, 0); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, path); got > n*4096/4 {
		t.Errorf("after the trim of everything %d bytes are left", got)
	}
	// That all is zero takes two bits a chunk to remember.
	if err := d.Zero(ctx, 0, 1<<40, block.FastZero); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, path); got > 80<<20 {
		t.Errorf("after zeroing everything %d bytes are left", got)
	}
	want := block.Extent{Len: 1 << 40, Status: block.Hole | block.Zero}
	if got := collect(t, d, block.Allocation, 0, 1<<40); len(got) != 1 || got[0] != want {
		t.Errorf("extents %v", got)
	}
}

func TestCowErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "x.cow")
	base := func(n int, fill byte) block.Device { return block.FromBytes(bytes.Repeat([]byte{fill}, n)) }
	newCow(t, base(1<<20, 1), CowOptions{Diff: path}).Close()
	none := filepath.Join(dir, "none")
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	defer newCow(t, base(1<<20, 1), CowOptions{Diff: open}).Close()
	for _, c := range []struct {
		base block.Device
		o    CowOptions
		is   error
		want string
	}{
		{base(1<<20, 1), CowOptions{}, block.ErrInvalid, "cow: diff is empty, must be a path: invalid argument"},
		{base(1<<20, 1), CowOptions{Diff: none, ReadOnly: true}, fs.ErrNotExist, "cow: open " + none + ": no such file or directory"},
		{base(1<<20, 1), CowOptions{Diff: none, Chunk: 5000}, block.ErrInvalid,
			"cow: chunk is 5000 bytes, must be a power of two from 512 to 65536: invalid argument"},
		{base(1<<20, 1), CowOptions{Diff: none + "/x"}, fs.ErrNotExist, ""},
		{base(1<<20, 1), CowOptions{Diff: path, Chunk: 8192}, block.ErrInvalid,
			"cow: " + path + ": chunk is 8192, the difference file has chunks of 4096 bytes: invalid argument"},
		{base(1<<20+512, 1), CowOptions{Diff: path}, block.ErrInvalid,
			"cow: " + path + ": the difference file belongs to another base: this one has 1049088 bytes, that one 1048576"},
		{base(1<<20, 2), CowOptions{Diff: path}, block.ErrInvalid, ""},
		{base(1<<20, 1), CowOptions{Diff: image}, block.ErrInvalid,
			"cow: " + image + `: not a difference file, it does not begin with "STRATCOW": invalid argument`},
		{base(1<<20, 1), CowOptions{Diff: open}, block.ErrIO,
			"cow: " + open + " is locked: this process or another one has it open (shared=True takes no lock)"},
	} {
		dev, err := Cow(c.base, c.o)
		if err == nil {
			dev.Close()
			t.Errorf("%+v: no error", c.o)
			continue
		}
		if c.want != "" && err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
		if c.o.Diff != open && !errors.Is(err, c.is) {
			t.Errorf("%v does not wrap %v", err, c.is)
		}
		// The base is still the caller's.
		if err := c.base.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a cow that failed left a file behind:", err)
	}
}

func TestCowNoAllocation(t *testing.T) {
	d := newCow(t, block.FromBytes(make([]byte, 1<<20)), CowOptions{Diff: filepath.Join(t.TempDir(), "x")})
	defer d.Close()
	passesFree(t, d, 4096, 4096)
}

// stored returns the bytes of storage that a file takes.
func stored(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// zeroReader is an endless source of zeros.
type zeroReader struct{}

func (zeroReader) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func BenchmarkCowRead(b *testing.B) {
	d := newCow(b, nothing{}, CowOptions{Diff: filepath.Join(b.TempDir(), "x")})
	benchmarkRead(b, d)
}

// What the first write to a chunk costs, over a difference file: chunk after
// chunk, at random places of 16 GiB, and by several at once. After every
// 2000 of them the disk starts anew, so that the file stays small.
func BenchmarkCowFirstWrite(b *testing.B) {
	const fresh = 2000
	var next atomic.Int64
	random := func() int64 { return next.Add(1) * 0x9e3779b1 % (1 << 22) << 12 }
	for name, place := range map[string]func() int64{
		"sequential": func() int64 { return next.Add(1) << 12 },
		"random":     random,
	} {
		for _, writers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s by %d", name, writers), func(b *testing.B) {
				b.ReportAllocs()
				path := filepath.Join(b.TempDir(), "x")
				for done := 0; done < b.N; done += fresh {
					b.StopTimer()
					os.Remove(path)
					d := newCow(b, block.FromReaderAt(zeroReader{}, 1<<40), CowOptions{Diff: path})
					firstWrites(b, d, 1, 1, place) // which marks the file
					b.StartTimer()
					firstWrites(b, d, min(fresh, b.N-done), writers, place)
					b.StopTimer()
					d.Close()
				}
			})
		}
	}
}

// firstWrites makes n writes of 4 KiB, by so many at once.
func firstWrites(b *testing.B, d block.Device, n, writers int, place func() int64) {
	var left atomic.Int64
	left.Store(int64(n))
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			p := bytes.Repeat([]byte{1}, 4096)
			for left.Add(-1) >= 0 {
				if err := d.WriteAt(context.Background(), p, place(), 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}
