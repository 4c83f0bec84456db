package socket

import (
	"net"
	"testing"
)

// Connections beyond the limit stay what they are, and those that are closed
// make room.
func TestLimit(t *testing.T) {
	a, b := pair(t, "unix")
	before := conns.Load()
	conns.Add(maxConns)
	c, d := pair(t, "unix")
	if _, ok := c.(*net.UnixConn); !ok {
		t.Errorf("beyond the limit: %T", c)
	}
	conns.Add(-maxConns)
	for _, nc := range []net.Conn{a, b, c, d} {
		nc.Close()
		nc.Close()
	}
	if n := conns.Load(); n != before-2 {
		t.Errorf("%d connections are counted after closing 2 of %d", n, before)
	}
}
