package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Era names the span of time in which nothing is lost that was written to the
// file, flushed or not, whatever becomes of the process: as long as the system
// runs and the file system stays mounted or the disk in place. Who finds
// another name after a crash can rely on flushes only. The name is empty where
// nobody knows: on network file systems, FUSE and others whose other end can
// fail alone.
func (d *file) Era() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return ""
	}
	storage := d.storage(&st)
	if storage == "" {
		return ""
	}
	return fmt.Sprintf("boot %s on %s inode %d", strings.TrimSpace(string(boot)), storage, st.Ino)
}

// storage names what holds the bytes of the file. Unlike a device number the
// name is not used again after a disk was pulled or a file system was mounted
// anew, either of which may have cost what was not flushed.
func (d *file) storage(st *unix.Stat_t) string {
	if d.device {
		return disk(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(d.fd, &fs) == nil && fs.Type == unix.TMPFS_MAGIC {
		return fmt.Sprintf("tmpfs %d", st.Dev)
	}
	if path := mountPath(d.fd); path != "" {
		return node("/sys/fs/" + path)
	}
	dev, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return ""
	}
	for _, kind := range []string{"ext4", "xfs", "f2fs"} {
		if name := node(filepath.Join("/sys/fs", kind, filepath.Base(dev))); name != "" {
			return name
		}
	}
	return ""
}

// disk names the disk with this directory in sysfs, or that of the partition.
// The kernel counts the media that it has seen, if it is not older than 5.15.
func disk(path string) string {
	for _, name := range []string{"/diskseq", "/../diskseq"} {
		if seq, err := os.ReadFile(path + name); err == nil {
			return node(path) + " " + strings.TrimSpace(string(seq))
		}
	}
	return ""
}

// node names a directory of sysfs, which is made when the thing that it stands
// for appears: Linux numbers them in sequence and begins anew only after 2^32.
func node(path string) string {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Stat(path, &st) != nil || unix.Statfs(path, &fs) != nil || fs.Type != unix.SYSFS_MAGIC {
		return ""
	}
	return fmt.Sprintf("%s %d", path, st.Ino)
}

// mountPath returns the directory below /sys/fs of a mounted file system, the
// empty string if Linux, before 6.9, or the file system does not know it.
func mountPath(fd int) string {
	const getSysfsPath = 0x80811501 // FS_IOC_GETFSSYSFSPATH
	var path struct {
		n    uint8
		name [128]byte
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getSysfsPath, uintptr(unsafe.Pointer(&path)))
	if errno != 0 || int(path.n) > len(path.name) {
		return ""
	}
	return string(path.name[:path.n])
}
