package lock

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockBytes locks n bytes of f for its open file description, so that it is
// independent of the process and of other descriptors of the same file, unless
// somebody else has one of them.
func lockBytes(f *os.File, off, n int64) (bool, error) {
	err := fcntl(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: n})
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}

func unlockBytes(f *os.File, off, n int64) error {
	return fcntl(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Start: off, Len: n})
}

// lockedBytes says whether somebody else has one of the bytes.
func lockedBytes(f *os.File, off, n int64) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: n}
	err := fcntl(f, unix.F_OFD_GETLK, &l)
	return l.Type != unix.F_UNLCK, err
}

func fcntl(f *os.File, cmd int, l *unix.Flock_t) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	if err := c.Control(func(fd uintptr) { errno = unix.FcntlFlock(fd, cmd, l) }); err != nil {
		return err
	}
	return errno
}
