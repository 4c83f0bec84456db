package socket

import (
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/strata-storage/strata/internal/race"
)

// maxVector is the system's limit of pieces in one call (IOV_MAX).
const maxVector = 1024

// A Vector sends from many places in one system call, and can do so without
// waiting, which package net cannot. It is for one goroutine at a time.
type Vector struct {
	raw  syscall.RawConn
	iov  []syscall.Iovec
	next int // the first that is not sent completely

	wait bool
	sent bool
	err  error
	step func(fd uintptr) bool // attempt, made once
}

// Plain is what a connection of another type says that is nothing but the socket
// that it returns. That it has a descriptor is not enough: it may do something
// with what is written before.
type Plain interface{ Plain() syscall.Conn }

// NewVector returns nil if nc is not a plain socket.
func NewVector(nc net.Conn) *Vector {
	var sc syscall.Conn
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc = nc
	case *net.UnixConn:
		sc = nc
	case *Conn:
		sc = nc
	case Plain:
		sc = nc.Plain()
	default:
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	v := &Vector{raw: raw}
	v.step = v.attempt
	return v
}

// Reset forgets what was added.
func (v *Vector) Reset() {
	clear(v.iov)
	v.iov, v.next = v.iov[:0], 0
}

// Add adds p to what is to be sent. It must stay as it is until it is.
func (v *Vector) Add(p []byte) {
	if len(p) == 0 {
		return
	}
	iov := syscall.Iovec{Base: &p[0]}
	iov.SetLen(len(p))
	v.iov = append(v.iov, iov)
}

// Send sends, or goes on sending, what was added. It reports whether all of it
// is sent; without wait it may return before, and is to be called again.
func (v *Vector) Send(wait bool) (sent bool, err error) {
	if v.next == len(v.iov) {
		return true, nil
	}
	v.wait, v.sent, v.err = wait, false, nil
	err = v.raw.Write(v.step)
	runtime.KeepAlive(v.iov)
	if err == nil {
		err = v.err
	}
	if v.sent || err != nil {
		v.Reset()
	}
	return v.sent, err
}

// attempt sends as much as the socket takes. It reports false to be called
// again when the socket takes more.
func (v *Vector) attempt(fd uintptr) bool {
	for v.next < len(v.iov) {
		part := v.iov[v.next:]
		n, errno := write(fd, part)
		switch errno {
		case 0:
			v.advance(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return !v.wait
		default:
			v.err = os.NewSyscallError("writev", errno)
			return true
		}
	}
	v.sent = true
	return true
}

// write sends from one place the cheaper way.
func write(fd uintptr, iov []syscall.Iovec) (int, syscall.Errno) {
	if race.Enabled {
		// Package syscall tells the race detector that what happens at the
		// receiver happens later.
		syscall.Write(int(fd), nil)
	}
	if len(iov) == 1 && iov[0].Len <= rawLimit {
		return raw(syscall.SYS_WRITE, fd, unsafe.Pointer(iov[0].Base), int(iov[0].Len))
	}
	iov = iov[:min(len(iov), maxVector)]
	if size(iov) <= rawLimit {
		return raw(syscall.SYS_WRITEV, fd, unsafe.Pointer(&iov[0]), len(iov))
	}
	n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	return int(n), errno
}

func size(iov []syscall.Iovec) (n uint64) {
	for i := range iov {
		n += uint64(iov[i].Len)
	}
	return n
}

func (v *Vector) advance(n int) {
	for n > 0 {
		iov := &v.iov[v.next]
		if n < int(iov.Len) {
			iov.Base = (*byte)(unsafe.Add(unsafe.Pointer(iov.Base), n))
			iov.SetLen(int(iov.Len) - n)
			return
		}
		n -= int(iov.Len)
		v.next++
	}
}
