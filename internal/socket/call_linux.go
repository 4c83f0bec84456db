package socket

import (
	"syscall"
	"unsafe"

	"github.com/strata-storage/strata/internal/race"
	"golang.org/x/sys/unix"
)

// rawLimit is the number of bytes up to which copying is over before the scheduler
// would do anything about it.
const rawLimit = 256 << 10

// Of calls that do not block the scheduler of Go is not told. That would cost as much
// as a short call does, and wake a thread that watches over calls, which then looks for
// those that block every 20 µs until all goroutines sleep. Where one request comes after
// the other that was a third of the processor time.

// Receive receives what there is, through a socket that does not block.
func Receive(fd uintptr, p []byte) (int, error) {
	n, errno := receive(fd, p)
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

func receive(fd uintptr, p []byte) (int, syscall.Errno) {
	if race.Enabled || len(p) == 0 || len(p) > rawLimit {
		// Package syscall tells the race detector that what happened at the
		// sender has happened before.
		n, err := syscall.Read(int(fd), p)
		return n, errno(err)
	}
	return raw(syscall.SYS_READ, fd, unsafe.Pointer(&p[0]), len(p))
}

func send(fd uintptr, p []byte) (int, syscall.Errno) {
	if race.Enabled || len(p) == 0 || len(p) > rawLimit {
		n, err := syscall.Write(int(fd), p)
		return n, errno(err)
	}
	return raw(syscall.SYS_WRITE, fd, unsafe.Pointer(&p[0]), len(p))
}

func raw(number, fd uintptr, p unsafe.Pointer, n int) (int, syscall.Errno) {
	done, _, errno := syscall.RawSyscall(number, fd, uintptr(p), uintptr(n))
	if errno != 0 {
		return 0, errno
	}
	return int(done), 0
}

// errno is the number in what package syscall returns.
func errno(err error) syscall.Errno {
	n, _ := err.(syscall.Errno)
	return n
}

// happened reports whether there is an event, and takes it.
func happened(epfd uintptr) (bool, error) {
	var event unix.EpollEvent
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epfd, uintptr(unsafe.Pointer(&event)), 1, 0, 0, 0)
	if errno != 0 {
		return false, errno
	}
	return n > 0, nil
}
