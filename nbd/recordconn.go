package nbd

import (
	"net"
	"sync"
)

// A recordConn lies under a TLS connection. TLS reads and writes records of at
// most 16 KiB with at least one system call each; a recordConn reads as much
// as there is and, while it is corked, collects what is written.
type recordConn struct {
	net.Conn
	in   []byte // received and not yet taken
	mem  []byte // the memory of in
	mu   sync.Mutex
	out  []byte
	cork bool
}

const recordConnBuffer = 64 << 10

func newRecordConn(conn net.Conn) *recordConn {
	return &recordConn{Conn: conn}
}

func (c *recordConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		if len(p) >= recordConnBuffer {
			return c.Conn.Read(p)
		}
		if c.mem == nil {
			c.mem = make([]byte, recordConnBuffer)
		}
		n, err := c.Conn.Read(c.mem)
		if n == 0 {
			return 0, err
		}
		c.in = c.mem[:n]
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

// pending reports whether a Read will not block.
func (c *recordConn) pending() bool { return len(c.in) > 0 }

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cork {
		return c.Conn.Write(p)
	}
	c.out = append(c.out, p...)
	if len(c.out) >= 4*recordConnBuffer {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
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
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}
