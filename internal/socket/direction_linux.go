package socket

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A direction is what is received through a socket, or what is sent.
type direction struct {
	c     *Conn
	event uint32 // of epoll: what it sleeps for

	use  sync.Mutex // held by who transfers, also while it sleeps
	f    func(fd uintptr) bool
	err  error
	try  func(fd uintptr)      // attempt, made once
	once func(fd uintptr) bool // transferSome, made once
	op   func(fd uintptr, p []byte) (int, syscall.Errno)
	p    []byte
	n    int

	mu       sync.Mutex
	sleeper  *sleeper // nil until it is needed
	deadline time.Time
	closed   bool
}

func (d *direction) init(c *Conn, event uint32, op func(uintptr, []byte) (int, syscall.Errno)) {
	d.c, d.event, d.op = c, event, op
	d.try, d.once = d.attempt, d.transferSome
}

// do calls f until it returns true, and sleeps in between.
func (d *direction) do(f func(fd uintptr) bool) error {
	d.use.Lock()
	defer d.use.Unlock()
	return d.run(f)
}

func (d *direction) run(f func(fd uintptr) bool) error {
	if d.expired() {
		return os.ErrDeadlineExceeded
	}
	d.f, d.err = f, nil
	// The descriptor stays open as long as this takes.
	if d.c.raw.Control(d.try) != nil {
		return net.ErrClosed
	}
	return d.err
}

func (d *direction) attempt(fd uintptr) {
	for !d.f(fd) {
		if d.err = d.sleep(fd); d.err != nil {
			return
		}
	}
}

// transfer reads into p or writes from it, at least one byte unless it fails or
// the stream has ended.
func (d *direction) transfer(p []byte) (int, error) {
	d.use.Lock()
	defer d.use.Unlock()
	d.p, d.n = p, 0
	err := d.run(d.once)
	d.p = nil
	return d.n, err
}

func (d *direction) transferSome(fd uintptr) bool {
	for {
		n, errno := d.op(fd, d.p)
		switch errno {
		case 0:
			d.n = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		default:
			d.err = errno
		}
		return true
	}
}

// sleep waits for the event.
func (d *direction) sleep(fd uintptr) error {
	d.mu.Lock()
	if d.sleeper == nil && !d.closed {
		s, err := newSleeper(int(fd), d.event)
		if err != nil {
			d.mu.Unlock()
			return err
		}
		s.epoll.SetReadDeadline(d.deadline)
		d.sleeper = s
	}
	s := d.sleeper
	d.mu.Unlock()
	if s == nil {
		return net.ErrClosed
	}
	return s.wait()
}

func (d *direction) expired() bool {
	d.mu.Lock()
	t := d.deadline
	d.mu.Unlock()
	return !t.IsZero() && !time.Now().Before(t)
}

func (d *direction) setDeadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = t
	if d.sleeper != nil {
		d.sleeper.epoll.SetReadDeadline(t)
	}
}

func (d *direction) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.sleeper != nil {
		d.sleeper.epoll.Close()
	}
}

func receive(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return n, errno(err)
}

func send(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return n, errno(err)
}

// errno is the number in what package syscall returns.
func errno(err error) syscall.Errno {
	n, _ := err.(syscall.Errno)
	return n
}
