package source_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/source"
	"golang.org/x/sys/unix"
)

// loop returns a block device of size bytes, and the file that it shows.
func loop(t testing.TB, size int64, options ...string) (device, file string) {
	t.Helper()
	losetup := peer.Need(t, "losetup")
	file = filepath.Join(t.TempDir(), "loop.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		peer.Cannot(t, "no loop devices: %v", err)
	}
	control.Close()
	out, err := exec.Command(losetup, append(options, "--find", "--show", file)...).CombinedOutput()
	if err != nil {
		peer.Missing(t, "no loop device: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command(losetup, "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return device, file
}

func TestBlockDeviceConformance(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]source.FileOptions{"cached": {}, "direct": {Direct: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := loop(t, mib)
			o.Path = path
			open := func(t testing.TB) block.Device {
				d, err := source.File(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			blocktest.Run(t, open, blocktest.Seeds(1),
				blocktest.Reopen(func(t testing.TB) func() block.Device {
					d := open(t)
					if err := errors.Join(d.Zero(t.Context(), 0, mib, 0), d.Close()); err != nil {
						t.Fatal(err)
					}
					return func() block.Device { return open(t) }
				}))
		})
	}
}

func TestBlockDevice(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path, file := loop(t, mib)
	d := mustOpen(t, source.FileOptions{Path: path})
	if i := d.Info(); i.Size != mib || i.ReadOnly || !i.Trims || !i.FastZeros || i.CheapExtents {
		t.Errorf("%+v", i)
	}
	if _, err := source.File(ctx, source.FileOptions{Path: path}); err == nil ||
		err.Error() != path+" is mounted or in use (shared=True opens it all the same)" {
		t.Errorf("second open: %v", err)
	}
	if _, err := source.File(ctx, source.FileOptions{Path: path, ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "is locked") {
		t.Errorf("second open for reading: %v", err)
	}
	mustOpen(t, source.FileOptions{Path: path, Shared: true})
	ones := bytes.Repeat([]byte{1}, int(mib))
	if err := d.WriteAt(ctx, ones, 0, block.FUA); err != nil {
		t.Fatal(err)
	}
	// The parts of sectors at both ends are written, the rest is a hole.
	if err := d.Zero(ctx, 1000, 500_000, block.FUA); err != nil {
		t.Fatal(err)
	}
	clear(ones[1000:501_000])
	if err := d.Trim(ctx, 600_000, 100, 0); err != nil {
		t.Error("trim inside a sector:", err)
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, ones) {
		t.Error("the file of the loop device differs", err)
	}
}

func TestBlockDeviceReadOnly(t *testing.T) {
	t.Parallel()
	path, _ := loop(t, mib, "--read-only")
	if _, err := source.File(t.Context(), source.FileOptions{Path: path}); !errors.Is(err, block.ErrReadOnly) &&
		!errors.Is(err, block.ErrPermission) && !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
	a := mustOpen(t, source.FileOptions{Path: path, ReadOnly: true})
	mustOpen(t, source.FileOptions{Path: path, ReadOnly: true})
	if i := a.Info(); !i.ReadOnly || i.Size != mib {
		t.Errorf("%+v", i)
	}
}

func TestBlockDeviceMounted(t *testing.T) {
	t.Parallel()
	mkfs := peer.Need(t, "mkfs.ext4")
	path, _ := loop(t, 8*mib)
	if out, err := exec.Command(mkfs, "-q", "-F", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	dir := t.TempDir()
	if err := unix.Mount(path, dir, "ext4", 0, ""); errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		peer.Cannot(t, "cannot mount an ext4: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if _, err := source.File(t.Context(), source.FileOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "is mounted or in use") {
		t.Error(err)
	}
}

// Era stays as long as nothing can be lost, and tells files apart.
func TestEra(t *testing.T) {
	t.Parallel()
	era := func(path string) string {
		d, err := source.File(t.Context(), source.FileOptions{Path: path, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		return d.(interface{ Era() string }).Era()
	}
	one, other := makeFile(t, 4096), makeFile(t, 4096)
	if e := era(one); e == "" {
		t.Log("not known here")
	} else if e != era(one) || e == era(other) {
		t.Errorf("%q, then %q; of another file %q", e, era(one), era(other))
	}

	device, file := loop(t, mib)
	if e := era(device); e == "" || e != era(device) || e == era(file) {
		t.Errorf("of a disk %q, then %q, of its file %q", e, era(device), era(file))
	}
}

// A device that is taken out while it is used gives errors, and is not full.
func TestBlockDeviceVanishes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path, file := loop(t, mib)
	d, err := source.File(ctx, source.FileOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, 4096)
	if err := errors.Join(d.WriteAt(ctx, p, 0, 0), os.Truncate(file, 0)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("losetup", "--set-capacity", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := d.WriteAt(ctx, p, 8192, 0); !errors.Is(err, block.ErrIO) || errors.Is(err, block.ErrNoSpace) {
		t.Errorf("a write: %v", err)
	}
	if err := d.ReadAt(ctx, p, 8192, 0); !errors.Is(err, block.ErrIO) {
		t.Errorf("a read: %v", err)
	}
}
