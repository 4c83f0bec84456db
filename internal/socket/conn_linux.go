package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Conn is a socket that Go's poller watches only while a goroutine sleeps for
// it. It behaves like the connection of package net that it was made of.
type Conn struct {
	was     net.Conn // closed; knows the addresses
	network string
	file    *os.File // the descriptor, which the poller does not know
	raw     syscall.RawConn
	in, out direction
}

var (
	_ net.Conn     = (*Conn)(nil)
	_ syscall.Conn = (*Conn)(nil)
)

// maxConns bounds the number of Conns. Each takes two descriptors more than a
// connection of package net: with thousands of clients that is worth more.
const maxConns = 1024

// conns is the number of Conns.
var conns atomic.Int64

// New returns a [Conn] in place of nc, which must not be used any more, if nc is
// a TCP or Unix socket and has no deadlines. Otherwise, if there are [maxConns] of
// them or descriptors have run out, it returns nc itself.
func New(nc net.Conn) net.Conn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nc
	}
	if conns.Add(1) <= maxConns {
		if c := adopt(nc); c != nil {
			return c
		}
	}
	conns.Add(-1)
	return nc
}

// adopt returns nil and leaves nc alone if it cannot have the descriptors.
func adopt(nc net.Conn) *Conn {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if fd < 0 || err != nil {
		return nil
	}
	in, err := newSleeper(fd, unix.EPOLLIN|unix.EPOLLRDHUP)
	if err != nil {
		unix.Close(fd)
		return nil
	}
	out, err := newSleeper(fd, unix.EPOLLOUT)
	if err != nil {
		in.epoll.Close()
		unix.Close(fd)
		return nil
	}
	c := &Conn{was: nc, network: nc.RemoteAddr().Network()}
	c.in.init(c, in, receive)
	c.out.init(c, out, send)
	nc.Close()
	// A file that does not block is one that the poller is told of.
	unix.SetNonblock(fd, false)
	c.file = os.NewFile(uintptr(fd), "socket")
	unix.SetNonblock(fd, true)
	c.raw, _ = c.file.SyscallConn() // fails for a nil file only
	return c
}

// Read implements [net.Conn].
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.transfer(p, false)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.failure("read", err)
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.out.transfer(p, true)
	return n, c.failure("write", err)
}

// WriteNow writes as much of p as the socket takes without waiting.
func (c *Conn) WriteNow(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.out.transferNow(p, true, true)
	return n, c.failure("write", err)
}

// failure says what err happened to, as package net does.
func (c *Conn) failure(op string, err error) error {
	if err == nil {
		return nil
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Close closes the socket when nothing is done with it any more, for which it
// does not wait. Who sleeps for it is woken and fails with [net.ErrClosed].
func (c *Conn) Close() error {
	c.in.sleeper.epoll.Close()
	c.out.sleeper.epoll.Close()
	if c.file.Close() != nil {
		return c.failure("close", net.ErrClosed)
	}
	conns.Add(-1)
	return nil
}

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.was.LocalAddr() }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.was.RemoteAddr() }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	return c.failure("set", errors.Join(c.in.setDeadline(t), c.out.setDeadline(t)))
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.failure("set", c.in.setDeadline(t)) }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.failure("set", c.out.setDeadline(t)) }

// Patient says whether others get the processor for a moment before a Read sleeps, see
// [Yield]. It must not be called while something is read.
func (c *Conn) Patient(is bool) { c.in.yields = is }

// SetWriteBuffer sets the size of the system's buffer for what is sent.
func (c *Conn) SetWriteBuffer(bytes int) error {
	var failure error
	err := c.raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
	})
	if err != nil {
		failure = net.ErrClosed
	}
	return c.failure("set", failure)
}

// SyscallConn implements [syscall.Conn]. The functions given to Read and Write
// of the result are called again, when they have returned false, once there is
// something to read or room to write.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }

type rawConn struct{ c *Conn }

func (r rawConn) Read(f func(fd uintptr) bool) error  { return r.c.in.do(f) }
func (r rawConn) Write(f func(fd uintptr) bool) error { return r.c.out.do(f) }

func (r rawConn) Control(f func(fd uintptr)) error {
	if r.c.raw.Control(f) != nil {
		return net.ErrClosed
	}
	return nil
}
