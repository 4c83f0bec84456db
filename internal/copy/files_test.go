package copy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func addressOf(b []byte) string { return fmt.Sprintf("%p", b) }

// sparseFile makes a file of 8 MiB with 1 MiB of data in its middle.
func sparseFile(t *testing.T) *os.File {
	t.Helper()
	f := tempFile(t, 8<<20)
	if _, err := f.WriteAt(bytes.Repeat([]byte("data"), 256<<10), 3<<20); err != nil {
		t.Fatal(err)
	}
	return f
}

func tempFile(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, f *os.File) []byte {
	t.Helper()
	p, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFilesStaySparse(t *testing.T) {
	t.Parallel()
	src, dst := sparseFile(t), tempFile(t, 8<<20)
	o := Options{Zeroed: true, Progress: new(Progress)}
	if err := Files(t.Context(), dst, src, o); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, dst), content(t, src)) {
		t.Fatal("the copy differs")
	}
	info, err := dst.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 2<<20 {
		t.Errorf("the copy takes %d bytes, its data are 1 MiB", used)
	}
	if p := o.Progress; p.Done.Load() != 8<<20 || p.Data.Load() < 1<<20 {
		t.Errorf("progress says %d done, %d of it data", p.Done.Load(), p.Data.Load())
	}
}

func TestFilesOverOldContent(t *testing.T) {
	t.Parallel()
	src, dst := sparseFile(t), tempFile(t, 9<<20)
	if _, err := dst.WriteAt(bytes.Repeat([]byte{9}, 9<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := Files(t.Context(), dst, src, Options{}); err != nil {
		t.Fatal(err)
	}
	want := append(content(t, src), bytes.Repeat([]byte{9}, 1<<20)...)
	if !bytes.Equal(content(t, dst), want) {
		t.Error("the copy differs, or the rest of the destination was touched")
	}
}

func TestFilesByHand(t *testing.T) {
	t.Parallel()
	src, dst := sparseFile(t), tempFile(t, 8<<20)
	o, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f := &fileCopier{dst: dst, src: src, o: o, size: 8 << 20}
	if err := f.dataByHand(t.Context(), 0, 8<<20); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, dst), content(t, src)) {
		t.Error("the copy differs")
	}
}

func TestFilesRefuse(t *testing.T) {
	t.Parallel()
	src, small := sparseFile(t), tempFile(t, 1<<20)
	if err := Files(t.Context(), small, src, Options{}); !errors.Is(err, ErrTooSmall) {
		t.Errorf("got %v, want ErrTooSmall", err)
	}
	if err := Files(t.Context(), src, src, Options{}); err == nil || err.Error() != "source and destination are the same file" {
		t.Errorf("got %v", err)
	}
	readOnly, err := os.Open(small.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if err := Files(t.Context(), readOnly, tempFile(t, 4096), Options{}); !errors.Is(err, syscall.EBADF) {
		t.Errorf("write to a file opened for reading: %v, want EBADF", err)
	}
}
