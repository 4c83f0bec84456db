package block_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

func TestFromBytesWritesThrough(t *testing.T) {
	p := make([]byte, 8)
	dev := block.FromBytes(p)
	if err := dev.WriteAt(t.Context(), []byte("abc"), 2, 0); err != nil {
		t.Fatal(err)
	}
	if string(p) != "\x00\x00abc\x00\x00\x00" {
		t.Errorf("the bytes are %q", p)
	}
}

// TestFromFileSyncFails: the error of a failed sync is that of every later one.
func TestFromFileSyncFails(t *testing.T) {
	name := newFile(t)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := block.FromFile(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	first := dev.Flush(t.Context())
	if first == nil {
		t.Fatal("a flush of a closed file succeeded")
	}
	if second := dev.Flush(t.Context()); second != first {
		t.Errorf("the first flush failed with %v, the second with %v", first, second)
	}
}

// TestFromFileCloseWaits: Close lets a zeroing of many writes end, or comes
// before its first.
func TestFromFileCloseWaits(t *testing.T) {
	const size = 4 << 20
	name := filepath.Join(t.TempDir(), "disk")
	ones := bytes.Repeat([]byte{1}, size)
	for range 10 {
		if err := os.WriteFile(name, ones, 0o600); err != nil {
			t.Fatal(err)
		}
		dev := openFile(t, name)
		zeroed := make(chan error)
		go func() { zeroed <- dev.Zero(t.Context(), 0, size, 0) }()
		runtime.Gosched()
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		err := <-zeroed
		got, readErr := os.ReadFile(name)
		if readErr != nil {
			t.Fatal(readErr)
		}
		switch {
		case err == nil && !block.IsZero(got):
			t.Error("a zeroing that succeeded left other bytes")
		case err != nil && (!errors.Is(err, block.ErrClosed) || !bytes.Equal(got, ones)):
			t.Errorf("Close interrupted a zeroing: %v", err)
		}
	}
}

func TestFromFileThatShrinks(t *testing.T) {
	name := newFile(t)
	dev := openFile(t, name)
	defer dev.Close()
	if err := os.Truncate(name, 100); err != nil {
		t.Fatal(err)
	}
	if err := dev.ReadAt(t.Context(), make([]byte, 512), 0, 0); !errors.Is(err, io.ErrUnexpectedEOF) || block.Errno(err) != block.ErrIO {
		t.Errorf("read beyond the end of a file that was cut short: %v", err)
	}
}

func TestFromFileReadOnly(t *testing.T) {
	f, err := os.Open(newFile(t))
	if err != nil {
		t.Fatal(err)
	}
	dev, err := block.FromFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := dev.WriteAt(t.Context(), []byte{1}, 0, 0); err == nil {
		t.Error("a file opened for reading took a write")
	}
}

func TestFromFileNotSeekable(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if dev, err := block.FromFile(r); err == nil {
		t.Errorf("a pipe became a device of %d bytes", dev.Info().Size)
	}
}

// closer is a reader that counts its closings.
type closer struct {
	io.ReaderAt
	closed int
	err    error
}

func (c *closer) Close() error {
	c.closed++
	return c.err
}

func TestFromReaderAt(t *testing.T) {
	r := &closer{ReaderAt: strings.NewReader("0123456789"), err: block.ErrIO}
	dev := block.FromReaderAt(r, 12)
	p := make([]byte, 4)
	if err := dev.ReadAt(t.Context(), p, 6, 0); err != nil || string(p) != "6789" {
		t.Errorf("read %q, %v", p, err)
	}
	if err := dev.ReadAt(t.Context(), p, 8, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a reader that ends early: %v", err)
	}
	if err := dev.Close(); err != block.ErrIO || r.closed != 1 {
		t.Errorf("Close returned %v, closed %d times", err, r.closed)
	}
	if err := dev.Close(); !errors.Is(err, block.ErrClosed) || r.closed != 1 {
		t.Errorf("second Close returned %v, closed %d times", err, r.closed)
	}
}

// failing is a reader whose reads fail.
type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

func TestFromReaderAtFails(t *testing.T) {
	dev := block.FromReaderAt(failing{}, 10)
	if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, 0); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestKeep(t *testing.T) {
	dev := block.FromBytes(make([]byte, 10))
	for range 2 {
		if err := block.Keep(dev).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := dev.Flush(t.Context()); err != nil {
		t.Errorf("after Close of what Keep returned: %v", err)
	}
}

// recorder notes the writes that pass through it.
type recorder struct {
	block.Pass
	info    block.Info
	lengths []int
	flags   []block.Flags
	err     error
}

func (r *recorder) Info() block.Info { return r.info }

func (r *recorder) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	r.lengths = append(r.lengths, len(p))
	r.flags = append(r.flags, flags)
	if r.err != nil {
		return r.err
	}
	return r.Pass.WriteAt(ctx, p, off, flags)
}

func TestWriteZeros(t *testing.T) {
	const size = 1 << 20
	p := bytes.Repeat([]byte{1}, size)
	r := &recorder{Pass: block.Pass{Device: block.FromBytes(p)}, info: block.Info{Size: size, MaxBlock: 65536}}
	if err := block.WriteZeros(t.Context(), r, 1000, 200000, block.FUA|block.NoHole|block.NoWait); err != nil {
		t.Fatal(err)
	}
	if !block.IsZero(p[1000:201000]) || p[999] != 1 || p[201000] != 1 {
		t.Error("not exactly the range is zero")
	}
	sum := 0
	for i, n := range r.lengths {
		sum += n
		if n > 65536 || r.flags[i] != block.FUA {
			t.Errorf("write of %d bytes with flags %d", n, r.flags[i])
		}
	}
	if sum != 200000 {
		t.Errorf("wrote %d bytes", sum)
	}
}

func TestWriteZerosRefuses(t *testing.T) {
	r := &recorder{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4096))}, info: block.Info{Size: 4096, MinBlock: 512}}
	cancelled, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	for _, test := range []struct {
		ctx    context.Context
		off, n int64
		flags  block.Flags
		want   error
	}{
		{t.Context(), 0, 512, block.FastZero, block.ErrNotSupported},
		{t.Context(), 0, 8192, block.FastZero, block.ErrRange},
		{t.Context(), 0, 100, 0, block.ErrInvalid},
		{cancelled, 0, 512, 0, cause},
	} {
		if err := block.WriteZeros(test.ctx, r, test.off, test.n, test.flags); !errors.Is(err, test.want) {
			t.Errorf("%d bytes at %d: %v, want %v", test.n, test.off, err, test.want)
		}
	}
	if len(r.lengths) > 0 {
		t.Errorf("%d writes for refused requests", len(r.lengths))
	}
	r.err = block.ErrNoSpace
	if err := block.WriteZeros(t.Context(), r, 0, 4096, 0); !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("a failed write: %v", err)
	}
	r.info.ReadOnly = true
	if err := block.WriteZeros(t.Context(), r, 0, 512, 0); !errors.Is(err, block.ErrReadOnly) {
		t.Errorf("a read-only device: %v", err)
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 7, 4096, 256 << 10, 256<<10 + 1, 1 << 20} {
		p := make([]byte, n)
		if !block.IsZero(p) {
			t.Errorf("%d zeros are not zero", n)
		}
		for _, i := range []int{0, n / 2, n - 1} {
			if n == 0 {
				continue
			}
			p[i] = 1
			if block.IsZero(p) {
				t.Errorf("byte %d of %d went unnoticed", i, n)
			}
			p[i] = 0
		}
	}
}

func TestCallerOf(t *testing.T) {
	if c := block.CallerOf(t.Context()); c == nil || *c != (block.Caller{}) {
		t.Errorf("nobody is %+v", c)
	}
	c := &block.Caller{Export: "disk"}
	if got := block.CallerOf(block.WithCaller(t.Context(), c)); got != c {
		t.Errorf("got %+v", got)
	}
}
