package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// describeFile completes the info of a regular file.
func (d *file) describeFile(st *unix.Stat_t) error {
	if b := int(st.Blksize); b >= pageSize && b <= 64<<10 && b&(b-1) == 0 {
		d.info.PreferredBlock = b
	}
	d.info.Rotational = queue(st.Dev, "rotational") == 1
	if !d.info.ReadOnly {
		// Nothing lies behind the end of the file.
		behind := (st.Size + pageSize) &^ (pageSize - 1)
		punches := behind > 0 && d.allocate(&d.noPunch, punchHole, behind, pageSize) == nil
		d.info.Trims, d.info.FastZeros = punches, punches
	}
	return nil
}

// describeDevice completes the info of a block device.
func (d *file) describeDevice(st *unix.Stat_t) error {
	size, err := ioctlUint64(d.fd, unix.BLKGETSIZE64)
	if err != nil {
		return wrap(d.path, "size", err)
	}
	d.info.Size = int64(size)
	if d.sector, err = unix.IoctlGetInt(d.fd, unix.BLKSSZGET); err != nil {
		return wrap(d.path, "sector size", err)
	}
	if b, err := unix.IoctlGetInt(d.fd, unix.BLKPBSZGET); err == nil && b > pageSize && b <= 64<<10 && b&(b-1) == 0 {
		d.info.PreferredBlock = b
	}
	locked, err := unix.IoctlGetInt(d.fd, unix.BLKROGET)
	if err != nil {
		return wrap(d.path, "read-only state", err)
	}
	if locked != 0 && !d.info.ReadOnly {
		return fmt.Errorf("block device %s is read-only: %w", d.path, block.ErrReadOnly)
	}
	d.info.Rotational = queue(st.Rdev, "rotational") == 1
	if !d.info.ReadOnly {
		zeroes := queue(st.Rdev, "write_zeroes_max_bytes") > 0
		d.info.FastZeros = zeroes
		d.info.Trims = zeroes && queue(st.Rdev, "discard_max_bytes") > 0
	}
	return nil
}

func ioctlUint64(fd int, request uint) (v uint64, err error) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(&v)))
	if errno != 0 {
		return 0, errno
	}
	return v, nil
}

// queue returns a number that the kernel knows about the queue of the disk
// that dev is or lies on, 0 if it knows none.
func queue(dev uint64, name string) int64 {
	at := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	at, err := filepath.EvalSymlinks(at)
	if err != nil {
		return 0
	}
	// A partition has its queue in the directory of its disk.
	for _, dir := range []string{at, filepath.Dir(at)} {
		text, err := os.ReadFile(filepath.Join(dir, "queue", name))
		if err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			return n
		}
	}
	return 0
}

// probeQuick finds out how reads can be kept from waiting.
func (d *file) probeQuick() quickReads {
	var one [1]byte
	_, err := d.kernel.read(d.fd, one[:], 0, unix.RWF_NOWAIT)
	if err == nil || err == unix.EAGAIN {
		return quickCached
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(d.fd, &fs) == nil && !d.device {
		switch fs.Type {
		case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
			return quickMemory
		}
	}
	return quickNever
}

// alignDirect finds out what direct I/O on the file wants to be aligned.
func (d *file) alignDirect() error {
	unit, memory := pageSize, pageSize
	var x unix.Statx_t
	err := unix.Statx(d.fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &x)
	switch {
	case err == nil && x.Mask&unix.STATX_DIOALIGN != 0 && x.Dio_offset_align != 0:
		unit, memory = int(x.Dio_offset_align), int(max(x.Dio_mem_align, 1))
	case d.device:
		unit, memory = d.sector, d.sector
	}
	if unit > 64<<10 || memory > 64<<10 || unit&(unit-1) != 0 || memory&(memory-1) != 0 {
		return fmt.Errorf("direct I/O on %s needs an alignment of %d bytes, at most 65536 is possible: %w", d.path, max(unit, memory), block.ErrInvalid)
	}
	if d.info.Size%int64(unit) != 0 {
		return fmt.Errorf("%s has %d bytes, direct needs a multiple of %d: %w", d.path, d.info.Size, unit, block.ErrInvalid)
	}
	d.info.MinBlock = unit
	d.direct = newAligner(memory)
	return nil
}
