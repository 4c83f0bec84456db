package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A VsockAddr is the address of one end of a connection between a virtual
// machine and its host.
type VsockAddr struct{ CID, Port uint32 }

// Network is "vsock".
func (a VsockAddr) Network() string { return "vsock" }

func (a VsockAddr) String() string { return fmt.Sprintf("%d:%d", a.CID, a.Port) }

// vsockListener is what package net has for the address families it knows: a
// non-blocking socket in the runtime's poller.
type vsockListener struct {
	file   *os.File
	addr   VsockAddr
	closed atomic.Bool
}

func listenVsock(cid, port uint32) (*vsockListener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: cid, Port: port}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return adoptVsock(fd, VsockAddr{cid, port}), nil
}

// adoptVsock makes a listener of a listening, non-blocking socket. The kernel
// knows the port if it chose it.
func adoptVsock(fd int, addr VsockAddr) *vsockListener {
	if bound, err := unix.Getsockname(fd); err == nil {
		if vm, ok := bound.(*unix.SockaddrVM); ok {
			addr = VsockAddr{vm.CID, vm.Port}
		}
	}
	return &vsockListener{file: os.NewFile(uintptr(fd), "vsock"), addr: addr}
}

func (l *vsockListener) Accept() (net.Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, l.failed(err)
	}
	var fd int
	var from unix.Sockaddr
	var failure error
	err = raw.Read(func(s uintptr) bool {
		fd, from, failure = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(failure, syscall.EAGAIN) && !errors.Is(failure, syscall.EINTR)
	})
	if err = errors.Join(err, failure); err != nil {
		return nil, l.failed(err)
	}
	peer, _ := from.(*unix.SockaddrVM)
	c := &vsockConn{File: os.NewFile(uintptr(fd), "vsock"), local: l.addr}
	if peer != nil {
		c.remote = VsockAddr{peer.CID, peer.Port}
	}
	return c, nil
}

func (l *vsockListener) failed(err error) error {
	if l.closed.Load() {
		err = net.ErrClosed
	}
	return &net.OpError{Op: "accept", Net: "vsock", Addr: l.addr, Err: err}
}

func (l *vsockListener) Close() error {
	l.closed.Store(true)
	return l.file.Close()
}

func (l *vsockListener) Addr() net.Addr { return l.addr }

// vsockConn is a connected socket; os.File has the deadlines.
type vsockConn struct {
	*os.File
	local, remote VsockAddr
}

func (c *vsockConn) LocalAddr() net.Addr  { return c.local }
func (c *vsockConn) RemoteAddr() net.Addr { return c.remote }
