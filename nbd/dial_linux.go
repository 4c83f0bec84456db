package nbd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sendTimeout is how long sent bytes may go without an acknowledgement before
// a TCP connection counts as lost. The system's own limit is many minutes.
const sendTimeout = 30 * time.Second

func controlTCP(network, _ string, rc syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failure error
	err := rc.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(sendTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failure
}

// dialVSock does for vsock what package net does for the families it knows.
func dialVSock(ctx context.Context, host, port string) (net.Conn, error) {
	cid, err := strconv.ParseUint(host, 10, 32)
	if err != nil {
		return nil, err
	}
	portNumber, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, err
	}
	to := vsockAddr{uint32(cid), uint32(portNumber)}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "vsock", Addr: to, Err: os.NewSyscallError("socket", err)}
	}
	c := &vsockConn{File: os.NewFile(uintptr(fd), "vsock"), remote: to}
	if err := c.connect(ctx); err != nil {
		c.Close()
		return nil, &net.OpError{Op: "dial", Net: "vsock", Addr: to, Err: err}
	}
	return c, nil
}

// A vsockConn is a connected socket. os.File has the deadlines.
type vsockConn struct {
	*os.File
	remote vsockAddr
}

func (c *vsockConn) connect(ctx context.Context) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var failure error
	started := false
	// The first call starts connecting; when the socket has become writable
	// it is done, one way or the other.
	err = rc.Write(func(fd uintptr) bool {
		if !started {
			started = true
			failure = unix.Connect(int(fd), &unix.SockaddrVM{CID: c.remote.cid, Port: c.remote.port})
			return failure != unix.EINPROGRESS && failure != unix.EAGAIN
		}
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failure = err
		case errno != 0:
			failure = unix.Errno(errno)
		default:
			failure = nil
		}
		return true
	})
	if err != nil {
		return err
	}
	if failure != nil {
		return os.NewSyscallError("connect", failure)
	}
	return nil
}

// Plain is for vectors.
func (c *vsockConn) Plain() syscall.Conn { return c.File }

func (c *vsockConn) LocalAddr() net.Addr  { return vsockAddr{} }
func (c *vsockConn) RemoteAddr() net.Addr { return c.remote }

type vsockAddr struct{ cid, port uint32 }

func (a vsockAddr) Network() string { return "vsock" }
func (a vsockAddr) String() string  { return fmt.Sprintf("%d:%d", a.cid, a.port) }
