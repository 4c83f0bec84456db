package source

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel is what an open file needs of the system, so that tests can make it
// fail. Calls that were interrupted before they did anything are repeated.
type kernel interface {
	// read and write are preadv2 and pwritev2 with one buffer. Of small ones
	// with RWF_NOWAIT, or in memory, the Go scheduler is not told.
	read(fd int, p []byte, off int64, flags int) (int, error)
	write(fd int, p []byte, off int64, flags int) (int, error)
	sync(fd int) error
	allocate(fd int, mode uint32, off, n int64) error
	seek(fd int, off int64, whence int) (int64, error)
	// cached is the number of pages of a range in the page cache.
	cached(fd int, off, n int64) (uint64, error)
	send(sock, fd int, off int64, n int) (int, error)
}

// linux is the kernel that runs. With memory, the file system lies in memory.
type linux struct{ memory bool }

// rawLimit is the length in bytes up to which copying is over sooner than the
// scheduler would take notice.
const rawLimit = 128 << 10

func (l linux) read(fd int, p []byte, off int64, flags int) (int, error) {
	for {
		n, err := l.vectored(unix.SYS_PREADV2, fd, p, off, flags)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (l linux) write(fd int, p []byte, off int64, flags int) (int, error) {
	for {
		n, err := l.vectored(unix.SYS_PWRITEV2, fd, p, off, flags)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// vectored is preadv2 or pwritev2. The kernel takes the offset in two halves
// on 32-bit systems and ignores the upper one on others.
func (l linux) vectored(call uintptr, fd int, p []byte, off int64, flags int) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	var n uintptr
	var errno unix.Errno
	if (l.memory || flags&unix.RWF_NOWAIT != 0) && len(p) <= rawLimit {
		n, _, errno = unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1,
			uintptr(off), uintptr(uint64(off)>>32), uintptr(flags))
	} else {
		n, _, errno = unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1,
			uintptr(off), uintptr(uint64(off)>>32), uintptr(flags))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (linux) sync(fd int) error {
	return again(func() error { return unix.Fdatasync(fd) })
}

func (linux) allocate(fd int, mode uint32, off, n int64) error {
	return again(func() error { return unix.Fallocate(fd, mode, off, n) })
}

func (l linux) seek(fd int, off int64, whence int) (int64, error) {
	if l.memory && whence == unix.SEEK_END && strconv.IntSize == 64 {
		at, _, errno := unix.RawSyscall(unix.SYS_LSEEK, uintptr(fd), uintptr(off), uintptr(whence))
		if errno != 0 {
			return 0, errno
		}
		return int64(at), nil
	}
	return unix.Seek(fd, off, whence)
}

// again repeats a call that was interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (linux) cached(fd int, off, n int64) (uint64, error) {
	var st unix.Cachestat_t
	err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &st, 0)
	return st.Cache, err
}

func (linux) send(sock, fd int, off int64, n int) (int, error) {
	return unix.Sendfile(sock, fd, &off, n)
}
