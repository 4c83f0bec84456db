package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/source"
	"golang.org/x/sys/unix"
)

// mustFile returns a new file of size bytes in dir as a device.
func mustFile(t testing.TB, dir string, size int64) block.Device {
	t.Helper()
	d, err := source.File(context.Background(), source.FileOptions{
		Path: filepath.Join(dir, "disk.img"), Create: true, Size: size,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// mustOpen returns the device that o describes.
func mustOpen(t testing.TB, o source.FileOptions) block.Device {
	t.Helper()
	d, err := source.File(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// makeFile writes a file of n bytes, all of them 1.
func makeFile(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, n), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a person sees when a file cannot be served.
func TestFileRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(path, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		o    source.FileOptions
		want string
		is   error
	}{
		{source.FileOptions{}, "file: path is empty: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: none}, "open " + none + ": no such file or directory", os.ErrNotExist},
		{source.FileOptions{Path: dir}, dir + " is neither a regular file nor a block device: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: pipe}, pipe + " is neither a regular file nor a block device: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: "/dev/null"}, "/dev/null is neither a regular file nor a block device: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: none, Create: true}, "file: create needs the size of the file: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: none, Create: true, Size: 5, ReadOnly: true}, "open " + none + ": no such file or directory", os.ErrNotExist},
		{source.FileOptions{Path: none, Create: true, Size: -5}, "file: size -5 is negative: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: none, Size: 5}, "file: size is for create only: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: path, Size: 500, Create: true}, path + " exists and has 1000 bytes, want 500: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: path, Direct: true}, path + " has 1000 bytes, direct needs a multiple of 512: invalid argument", block.ErrInvalid},
		{source.FileOptions{Path: filepath.Join(none, "x"), Create: true, Size: 5}, "open " + none + "/x: no such file or directory", os.ErrNotExist},
		{source.FileOptions{Path: none, Create: true, Size: 1<<63 - 1}, "cannot give " + none + " a size of 9223372036854775807 bytes: file too large", unix.EFBIG},
	} {
		d, err := source.File(t.Context(), c.o)
		if err == nil {
			d.Close()
			t.Errorf("%+v is served", c.o)
			continue
		}
		if err.Error() != c.want && !c.o.Direct || !errors.Is(err, c.is) {
			t.Errorf("got  %v\nwant %v", err, c.want)
		}
	}
	if _, err := os.Stat(none); !errors.Is(err, os.ErrNotExist) {
		t.Error("a failed creation leaves something behind:", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.File(ctx, source.FileOptions{Path: path}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFileLocks(t *testing.T) {
	t.Parallel()
	path := makeFile(t, 4096)
	locked := path + " is locked: this process or another one has it open (shared=True takes no lock)"
	d := mustOpen(t, source.FileOptions{Path: path})
	for _, o := range []source.FileOptions{{Path: path}, {Path: path, ReadOnly: true}} {
		if _, err := source.File(t.Context(), o); err == nil || err.Error() != locked || !errors.Is(err, syscall.EBUSY) {
			t.Errorf("second open: %v", err)
		}
	}
	for _, part := range []string{"opener", "reader"} {
		if got := outcome(t, part, path); got != locked {
			t.Errorf("%s in another process: %s", part, got)
		}
	}
	mustOpen(t, source.FileOptions{Path: path, Shared: true}).Close()
	if got := outcome(t, "opener", path); got != locked {
		t.Error("closing a shared open has released the lock:", got)
	}
	d.Close()
	if got := outcome(t, "opener", path); got != "open" {
		t.Error("after close:", got)
	}
	mustOpen(t, source.FileOptions{Path: path, ReadOnly: true})
	mustOpen(t, source.FileOptions{Path: path, ReadOnly: true})
	if got := outcome(t, "reader", path); got != "open" {
		t.Error("reader beside readers:", got)
	}
	if got := outcome(t, "opener", path); got != locked {
		t.Error("writer beside readers:", got)
	}
}

// A process that may not write files of that size would be killed by the
// attempt, so that it must not begin.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	path := makeFile(t, 4096)
	want := path + " has 4096 bytes, the process may write files of up to 1000 (ulimit -f): file too large"
	if got := outcome(t, "limited", path); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The last byte of a file that is no multiple of anything can be read and
// written, and the file keeps its size.
func TestFileOddSize(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := makeFile(t, 5001)
	d := mustOpen(t, source.FileOptions{Path: path})
	if got := d.Info().Size; got != 5001 {
		t.Fatal("size", got)
	}
	for _, flags := range []block.Flags{0, block.FUA} {
		p := []byte{7, 8}
		if err := d.WriteAt(ctx, p, 4999, flags); err != nil {
			t.Fatal(err)
		}
		if err := d.ReadAt(ctx, p, 4999, 0); err != nil || p[0] != 7 || p[1] != 8 {
			t.Fatal(p, err)
		}
		if err := d.WriteAt(ctx, p, 5000, flags); !errors.Is(err, block.ErrRange) {
			t.Error(err)
		}
	}
	if err := d.Zero(ctx, 4097, 904, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Trim(ctx, 0, 5001, block.FUA); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 5001 {
		t.Error("the file has now", st.Size(), err)
	}
}

func TestFileReadOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := mustOpen(t, source.FileOptions{Path: makeFile(t, 8192), ReadOnly: true})
	if i := d.Info(); !i.ReadOnly || i.Trims {
		t.Errorf("%+v", i)
	}
	for name, err := range map[string]error{
		"write": d.WriteAt(ctx, make([]byte, 512), 0, 0),
		"zero":  d.Zero(ctx, 0, 512, 0),
		"trim":  d.Trim(ctx, 0, 512, 0),
	} {
		if !errors.Is(err, block.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.Flush(ctx); err != nil {
		t.Error(err)
	}
}

// A file that becomes shorter fails what lies behind its end, and nothing
// makes it longer again.
func TestFileShrinks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, flags := range []block.Flags{0, block.NoWait, block.FUA} {
		path := makeFile(t, 64<<10)
		d := mustOpen(t, source.FileOptions{Path: path})
		want := "file " + path + " is shorter than when it was opened, 65536 bytes: input/output error"
		if err := os.Truncate(path, 10_000); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4096)
		if err := d.ReadAt(ctx, p, 4096, 0); err != nil {
			t.Error("read before the end:", err)
		}
		for _, off := range []int64{8192, 32768} {
			err := d.ReadAt(ctx, p, off, flags)
			if err == block.ErrWouldBlock {
				err = d.ReadAt(ctx, p, off, 0)
			}
			if err == nil || err.Error() != want {
				t.Errorf("read at %d: %v", off, err)
			}
		}
		var extents error
		for _, err := range d.Extents(ctx, block.Allocation, 0, 64<<10) {
			extents = err
		}
		for name, err := range map[string]error{
			"write":   d.WriteAt(ctx, p, 32768, flags),
			"zero":    d.Zero(ctx, 0, 65536, 0),
			"trim":    d.Trim(ctx, 0, 65536, 0),
			"extents": extents,
		} {
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if st, err := os.Stat(path); err != nil || st.Size() != 10_000 {
			t.Errorf("the file has grown to %d, %v", st.Size(), err)
		}
	}
}

// A full file system fails the writes that do not fit, and what was there
// stays.
func TestFileNoSpace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		peer.Cannot(t, "cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	d := mustFile(t, dir, mib)
	p := bytes.Repeat([]byte{3}, 128<<10)
	if err := d.WriteAt(ctx, p, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []block.Flags{0, block.FUA, block.NoWait} {
		var err error
		for off := int64(256 << 10); off < mib && err == nil; off += 64 << 10 {
			err = d.WriteAt(ctx, p[:64<<10], off, flags)
		}
		if !errors.Is(err, block.ErrNoSpace) || !strings.Contains(err.Error(), "disk.img: no space left on device") {
			t.Error(err)
		}
	}
	if err := d.Zero(ctx, 0, mib, block.NoHole); !errors.Is(err, block.ErrNoSpace) {
		t.Error("zero without holes:", err)
	}
	if err := d.Trim(ctx, 0, mib, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(ctx, p, 512<<10, block.FUA); err != nil {
		t.Error("there is room again:", err)
	}
	if err := d.Flush(ctx); err != nil {
		t.Error(err)
	}
}

// Trim and zero give space back, extents show it, and zero without holes
// keeps it.
func TestFileHoles(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, dir := range map[string]string{"disk": t.TempDir(), "tmpfs": shm(t)} {
		d := mustFile(t, dir, mib)
		if i := d.Info(); !i.Trims || !i.FastZeros || !i.CheapExtents {
			peer.Cannot(t, "%s cannot punch holes: %+v", name, i)
		}
		if err := d.WriteAt(ctx, bytes.Repeat([]byte{1}, int(mib)), 0, block.FUA); err != nil {
			t.Fatal(err)
		}
		full := allocated(t, dir)
		if err := d.Zero(ctx, 0, 256<<10, block.NoHole); err != nil {
			t.Fatal(err)
		}
		if got := allocated(t, dir); got < full {
			t.Errorf("%s: zero without holes went from %d to %d bytes", name, full, got)
		}
		if err := errors.Join(d.Zero(ctx, 256<<10, 256<<10, block.FastZero), d.Trim(ctx, 512<<10, 256<<10, 0), d.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
		if got := allocated(t, dir); got > full-512<<10 {
			t.Errorf("%s: holes went from %d to %d bytes", name, full, got)
		}
		got := extentsOf(t, d, 300<<10, mib-300<<10)
		want := []block.Extent{{Off: 300 << 10, Len: 468 << 10, Status: hole}, {Off: 768 << 10, Len: 256 << 10}}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// allocated returns the bytes of storage of the one file in dir.
func allocated(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "disk.img"), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// What was flushed before the process was killed is in the file.
func TestFileKilled(t *testing.T) {
	t.Parallel()
	path := makeFile(t, 64*4096)
	cmd, lines := start(t, "writer", path)
	flushed := ""
	for range 5 {
		if !lines.Scan() {
			t.Fatal("the writer has stopped")
		}
		flushed = lines.Text()
	}
	cmd.Process.Kill()
	cmd.Wait()
	d := mustOpen(t, source.FileOptions{Path: path})
	p := make([]byte, 4096)
	for off := int64(0); off < d.Info().Size; off += 4096 {
		if err := d.ReadAt(t.Context(), p, off, 0); err != nil {
			t.Fatal(err)
		}
		if got, oldest := string(p[:8]), fmt.Sprintf("%08s", flushed); got < oldest {
			t.Fatalf("page at %d is of round %s, %s has been flushed", off, got, oldest)
		}
	}
}

// directFile is a device with direct I/O, of a file of one MiB.
func directFile(t testing.TB) (d block.Device, path string) {
	t.Helper()
	path = makeFile(t, int(mib))
	d, err := source.File(t.Context(), source.FileOptions{Path: path, Direct: true})
	switch {
	case errors.Is(err, unix.EINVAL):
		peer.Cannot(t, "no direct I/O: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

// Direct I/O takes buffers from anywhere, and whole sectors only.
func TestFileDirect(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, path := directFile(t)
	unit := int64(d.Info().MinBlock)
	if unit < 512 {
		t.Fatalf("%+v", d.Info())
	}
	for _, flags := range []block.Flags{0, block.FUA, block.NoWait} {
		for _, shift := range []int{0, 1, 8, 511} {
			n := 512 << 10
			p := bytes.Repeat([]byte{byte(shift + 2)}, n+shift)[shift:]
			q := make([]byte, n+shift)[shift:]
			if err := d.WriteAt(ctx, p, unit, flags); err != nil {
				t.Fatal(err)
			}
			if err := d.ReadAt(ctx, q, unit, flags); err != nil || !bytes.Equal(p, q) {
				t.Fatalf("read back with buffers shifted by %d: %v", shift, err)
			}
		}
	}
	if err := d.WriteAt(ctx, make([]byte, 100), 0, 0); !errors.Is(err, block.ErrInvalid) {
		t.Error(err)
	}
	if err := d.Zero(ctx, unit, 5*unit, block.NoHole); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(path, 10_000); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(ctx, make([]byte, 8192), 8192, 0); err == nil || !strings.Contains(err.Error(), "shorter than when it was opened") {
		t.Error(err)
	}
}

// Closing a file frees it at once, also while the process starts others, which
// have copies of all descriptors for a moment.
func TestFileCloseWhileForking(t *testing.T) {
	t.Parallel()
	path := makeFile(t, 4096)
	stop := make(chan struct{})
	var forks sync.WaitGroup
	for range 4 {
		forks.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					exec.Command("/bin/true").Run()
				}
			}
		})
	}
	defer forks.Wait()
	defer close(stop)
	for i := range 300 {
		d, err := source.File(t.Context(), source.FileOptions{Path: path})
		if err != nil {
			t.Fatalf("open %d: %v", i, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
