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
	c       *Conn
	sleeper *sleeper

	use  sync.Mutex // held by who transfers, also while it sleeps
	f    func(fd uintptr) bool
	err  error
	try  func(fd uintptr)      // attempt, made once
	step func(fd uintptr) bool // transferSome, made once
	op   func(fd uintptr, p []byte) (int, syscall.Errno)
	p    []byte
	all  bool // of p
	now  bool // without waiting
	// yields: others get the processor before this sleeps.
	yields bool
	n      int

	mu       sync.Mutex
	deadline time.Time
}

func (d *direction) init(c *Conn, s *sleeper, op func(uintptr, []byte) (int, syscall.Errno)) {
	d.c, d.sleeper, d.op = c, s, op
	d.try, d.step = d.attempt, d.transferSome
}

// do calls f until it returns true, and sleeps in between.
func (d *direction) do(f func(fd uintptr) bool) error {
	d.use.Lock()
	defer d.use.Unlock()
	return d.run(f)
}

func (d *direction) run(f func(fd uintptr) bool) error {
	d.f, d.err = f, nil
	// The descriptor stays open as long as this takes.
	if d.c.raw.Control(d.try) != nil {
		return net.ErrClosed
	}
	return d.err
}

func (d *direction) attempt(fd uintptr) {
	if d.expired() {
		d.err = os.ErrDeadlineExceeded
		return
	}
	for first := true; !d.f(fd); first = false {
		if first && d.yields {
			Yield()
			continue
		}
		if d.err = d.sleeper.wait(); d.err != nil {
			return
		}
	}
}

// transfer reads into p or writes from it: all of it, or at least one byte unless
// it fails or the stream has ended.
func (d *direction) transfer(p []byte, all bool) (int, error) { return d.transferNow(p, all, false) }

// transferNow is transfer, but with now it does not wait.
func (d *direction) transferNow(p []byte, all, now bool) (int, error) {
	d.use.Lock()
	defer d.use.Unlock()
	d.p, d.all, d.now, d.n = p, all, now, 0
	err := d.run(d.step)
	d.p = nil
	return d.n, err
}

func (d *direction) transferSome(fd uintptr) bool {
	for {
		n, errno := d.op(fd, d.p[d.n:])
		switch errno {
		case 0:
			d.n += n
			if d.all && d.n < len(d.p) {
				continue
			}
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return d.now
		default:
			d.err = errno
		}
		return true
	}
}

func (d *direction) expired() bool {
	d.mu.Lock()
	t := d.deadline
	d.mu.Unlock()
	return !t.IsZero() && !time.Now().Before(t)
}

func (d *direction) setDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = t
	if d.sleeper.epoll.SetReadDeadline(t) != nil {
		return net.ErrClosed
	}
	return nil
}
