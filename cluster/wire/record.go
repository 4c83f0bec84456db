package wire

import (
	"net"
	"sync"

	"github.com/strata-storage/strata/internal/tlsrecord"
)

// A recordConn lies under a TLS connection. TLS reads and writes records of at
// most 16 KiB with at least one system call each; a recordConn reads as much as
// there is and, while it is corked, keeps what is written.
type recordConn struct {
	net.Conn
	buf    []byte
	r, w   int // buf[r:w] is received and not yet taken
	bounds tlsrecord.Bounds

	// now is Conn if it can write without waiting, or nil.
	now prompter

	mu   sync.Mutex
	cork bool
	out  []byte
	sent int // of out
}

// A prompter writes as much as there is room for.
type prompter interface{ WriteNow(p []byte) (int, error) }

const (
	recordIn  = 64 << 10
	recordOut = 256 << 10
)

func newRecordConn(nc net.Conn) *recordConn {
	return &recordConn{Conn: nc, buf: make([]byte, recordIn)}
}

// Read gives no more than the rest of one record: TLS would keep the start of the
// next one in a buffer that grows for it.
func (c *recordConn) Read(p []byte) (int, error) {
	if c.r == c.w {
		n, err := c.Conn.Read(c.buf)
		if n == 0 {
			return 0, err
		}
		c.r, c.w = 0, n
	}
	n := copy(p, c.bounds.Within(c.buf[c.r:c.w]))
	c.bounds.Pass(c.buf[c.r : c.r+n])
	c.r += n
	return n, nil
}

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cork {
		return c.Conn.Write(p)
	}
	if len(c.out)+len(p) > recordOut {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// collect keeps what is written from now on until sendCollected.
func (c *recordConn) collect() {
	c.mu.Lock()
	c.cork = true
	c.mu.Unlock()
}

// sendCollected reports whether all is sent. Without wait it may return before, and is to
// be called again.
func (c *recordConn) sendCollected(wait bool) (sent bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !wait {
		n, err := c.now.WriteNow(c.out[c.sent:])
		if c.sent += n; err == nil && c.sent < len(c.out) {
			return false, nil
		}
		c.cork, c.out, c.sent = false, c.out[:0], 0
		return true, err
	}
	c.cork = false
	return true, c.send()
}

func (c *recordConn) send() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.out[c.sent:])
	c.out, c.sent = c.out[:0], 0
	return err
}
