package nbd

import (
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// maxVector is the system's limit of pieces in one call (IOV_MAX).
const maxVector = 1024

// A vector sends from many places in one system call, and can do so without
// waiting, which package net cannot.
type vector struct {
	raw  syscall.RawConn
	iov  []syscall.Iovec
	next int // the first that is not sent completely

	wait bool
	sent bool
	err  error
	step func(fd uintptr) bool // attempt, bound once
}

// newVector returns nil if nc is not a plain socket.
func newVector(nc net.Conn) *vector {
	var sc syscall.Conn
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc = nc
	case *net.UnixConn:
		sc = nc
	case *vsockConn:
		sc = nc.File
	default:
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	v := &vector{raw: raw, iov: make([]syscall.Iovec, 0, 2*maxBatch+1)}
	v.step = v.attempt
	return v
}

func (v *vector) reset() {
	clear(v.iov)
	v.iov, v.next = v.iov[:0], 0
}

func (v *vector) add(p []byte) {
	if len(p) == 0 {
		return
	}
	iov := syscall.Iovec{Base: &p[0]}
	iov.SetLen(len(p))
	v.iov = append(v.iov, iov)
}

// send sends, or goes on sending, what was added.
func (v *vector) send(wait bool) (sent bool, err error) {
	v.wait, v.sent, v.err = wait, false, nil
	err = v.raw.Write(v.step)
	runtime.KeepAlive(v.iov)
	if err == nil {
		err = v.err
	}
	if v.sent || err != nil {
		v.reset()
	}
	return v.sent, err
}

// attempt sends as much as the socket takes. It reports false to be called
// again when the socket takes more.
func (v *vector) attempt(fd uintptr) bool {
	for v.next < len(v.iov) {
		part := v.iov[v.next:]
		n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd,
			uintptr(unsafe.Pointer(&part[0])), uintptr(min(len(part), maxVector)))
		switch errno {
		case 0:
			v.advance(int(n))
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

func (v *vector) advance(n int) {
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
