package nbd

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"syscall"
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
	bounds  recordBounds
	n       int // result of receive
	err     error

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
	n := copy(p, c.bounds.within(c.in))
	c.bounds.pass(c.in[:n])
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.mem.release()
		c.mem = nil
	}
	return n, nil
}

// recordBounds follows the records of TLS. A Read never gives more than the
// rest of one record: TLS would keep the start of the next one in a buffer that
// then grows to three times the size of a record, and stays.
type recordBounds struct {
	header [5]byte
	known  int // of header
	body   int // what is left of the body
}

// within returns the part of in up to the next end of a record. in is not
// empty, nor is the result.
func (b *recordBounds) within(in []byte) []byte {
	n := b.body
	if n == 0 {
		h := b.header
		copy(h[b.known:], in)
		n = len(h) - b.known
		if len(in) >= n {
			n += int(binary.BigEndian.Uint16(h[3:]))
		}
	}
	return in[:min(n, len(in))]
}

// pass goes past p, which is the beginning of what within returned.
func (b *recordBounds) pass(p []byte) {
	if b.body == 0 {
		n := copy(b.header[b.known:], p)
		if b.known += n; b.known < len(b.header) {
			return
		}
		p = p[n:]
		b.known, b.body = 0, int(binary.BigEndian.Uint16(b.header[3:]))
	}
	b.body -= len(p)
}

// fill receives what there is, once there is something.
func (c *recordConn) fill() error {
	var err error
	if c.raw != nil {
		if err = c.raw.Read(c.receive); err == nil {
			err = c.err
		}
	} else {
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
