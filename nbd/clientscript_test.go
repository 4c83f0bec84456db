package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func optionReplyBytes(opt option, code replyCode, data []byte) []byte {
	b := be64(magicOptReply)
	b = binary.BigEndian.AppendUint32(b, uint32(opt))
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// A scriptConn says what is in out, whatever it is told, and then hangs up.
type scriptConn struct {
	out io.Reader

	mu   sync.Mutex
	in   bytes.Buffer
	shut bool
}

func (c *scriptConn) Read(p []byte) (int, error) { return c.out.Read(p) }

func (c *scriptConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return 0, net.ErrClosed
	}
	return c.in.Write(p)
}

func (c *scriptConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	return nil
}

func (c *scriptConn) sent() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.in.Bytes())
}

func (c *scriptConn) LocalAddr() net.Addr              { return nil }
func (c *scriptConn) RemoteAddr() net.Addr             { return nil }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// dialScript dials a server that says script. It returns what the client said.
func dialScript(t testing.TB, uri string, script []byte) ([]byte, error) {
	t.Helper()
	conn := &scriptConn{out: bytes.NewReader(script)}
	d := &Dialer{Connect: func(context.Context) (net.Conn, error) { return conn, nil }, Reconnect: Reconnect{Off: true}}
	c, err := d.Dial(t.Context(), uri)
	if err == nil {
		c.Close()
	}
	return conn.sent(), err
}
