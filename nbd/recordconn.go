package nbd

import (
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/strata-storage/strata/internal/tlsrecord"
)

// A recordConn lies under a TLS connection. TLS reads and writes records of at
// most 16 KiB with at least one system call each; a recordConn reads as much
// as there is and, while it is corked, collects what is written. It holds no
// buffer while nothing is to be done.
type recordConn struct {
	net.Conn
	raw     syscall.RawConn // the way to the descriptor of Conn, or nil
	receive func(fd uintptr) bool
	mem     *buffer // the memory of in
	in      []byte  // received and not yet taken
	bounds  tlsrecord.Bounds
	n       int // result of receive
	err     error

	idle   func()      // called when there is nothing, before waiting for more
	linger func() bool // whether to look again when there is nothing
	found  func()      // is told that there was something

	mu   sync.Mutex
	out  *buffer // collected
	cork bool
}

// recordConnBuffer is how much is received, and recordConnOut how much is
// collected at the most: more than a record.
const (
	recordConnBuffer = 64 << 10
	recordConnOut    = 256 << 10
)

func newRecordConn(conn net.Conn) *recordConn {
	c := &recordConn{Conn: conn, raw: rawConn(conn)}
	c.receive = c.receiveNow
	return c
}

func (c *recordConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.bounds.Within(c.in))
	c.bounds.Pass(c.in[:n])
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.mem.release()
		c.mem = nil
	}
	return n, nil
}

// fill receives what there is, once there is something.
func (c *recordConn) fill() error {
	var err error
	if c.raw != nil {
		if err = c.raw.Read(c.receive); err == nil {
			err = c.err
		}
	} else {
		if c.idle != nil {
			c.idle()
		}
		c.mem = newBuffer(recordConnBuffer)
		c.n, err = c.Conn.Read(c.mem.mem)
	}
	if c.n == 0 && err == nil {
		err = io.EOF
	}
	if c.n > 0 {
		c.in, c.n = c.mem.mem[:c.n], 0
		return nil // an error will come again
	}
	if c.mem != nil {
		c.mem.release()
		c.mem = nil
	}
	return err
}

// receiveNow receives without waiting. It returns false if there is nothing
// yet.
func (c *recordConn) receiveNow(fd uintptr) bool {
	c.mem = newBuffer(recordConnBuffer)
	for {
		n, err := receiveNow(fd, c.mem.mem)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			c.mem.release()
			c.mem = nil
			if c.idle != nil {
				c.idle()
			}
			if c.linger == nil || !c.linger() {
				return false
			}
			c.mem = newBuffer(recordConnBuffer)
			continue
		}
		if c.found != nil {
			c.found()
		}
		c.n, c.err = max(n, 0), err
		return true
	}
}

// pending reports whether a Read will not block.
func (c *recordConn) pending() bool { return len(c.in) > 0 }

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cork {
		return c.Conn.Write(p)
	}
	if c.out != nil && c.out.spare() < len(p) {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	if c.out == nil {
		c.out = newBuffer(max(recordConnOut, len(p)))
		c.out.start, c.out.end = 0, 0
	}
	c.out.end += copy(c.out.mem[c.out.end:], p)
	return len(p), nil
}

// collect keeps what is written from now on until sendCollected.
func (c *recordConn) collect() {
	c.mu.Lock()
	c.cork = true
	c.mu.Unlock()
}

func (c *recordConn) sendCollected() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cork = false
	return c.send()
}

func (c *recordConn) send() error {
	if c.out == nil {
		return nil
	}
	_, err := c.Conn.Write(c.out.mem[:c.out.end])
	c.out.release()
	c.out = nil
	return err
}
