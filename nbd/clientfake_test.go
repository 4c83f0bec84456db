package nbd

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
)

// A fakeServer agrees to everything and then behaves as a test wants.
type fakeServer struct {
	t     testing.TB
	form  Replies
	size  uint64
	flags uint16
	// serve has the connection after the handshake. n counts connections
	// from 0.
	serve func(s *fakeConn, n int)

	conns atomic.Int32
}

const fakeFlags = flagHasFlags | flagSendFlush | flagSendFUA | flagSendTrim | flagSendWriteZeroes | flagSendFastZero

// dialer returns a Dialer of pipes to f.
func (f *fakeServer) dialer() *Dialer {
	return &Dialer{Replies: f.form, Reconnect: Reconnect{Off: true}, Connect: func(context.Context) (net.Conn, error) {
		mine, theirs := net.Pipe()
		n := int(f.conns.Add(1)) - 1
		go func() {
			defer theirs.Close()
			c := &fakeConn{Conn: theirs, fakeServer: f}
			if c.handshake() {
				f.serve(c, n)
			}
		}()
		return mine, nil
	}}
}

type fakeConn struct {
	net.Conn
	*fakeServer
}

// handshake accepts what the client asks for.
func (c *fakeConn) handshake() bool {
	c.Write(slices.Concat(be64(magicInit), be64(magicOption), be16(3)))
	if _, ok := c.take(4); !ok {
		return false
	}
	for {
		p, ok := c.take(16)
		if !ok {
			return false
		}
		opt := option(binary.BigEndian.Uint32(p[8:]))
		if _, ok = c.take(int(binary.BigEndian.Uint32(p[12:]))); !ok {
			return false
		}
		if opt == optSetMetaContext {
			c.Write(optionReplyBytes(opt, repMetaContext, append(be32(7), "base:allocation"...)))
		}
		if opt == optGo {
			c.Write(optionReplyBytes(opt, repInfo, slices.Concat(be16(0), be64(c.size), be16(c.flags))))
		}
		c.Write(optionReplyBytes(opt, repAck, nil))
		if opt == optGo {
			return true
		}
	}
}

func (c *fakeConn) take(n int) ([]byte, bool) {
	p := make([]byte, n)
	_, err := io.ReadFull(c, p)
	return p, err == nil
}

type fakeRequest struct {
	cmd            command
	flags          uint16
	cookie, off, n uint64
	payload        []byte
}

// request reads the next request; ok is false at the end.
func (c *fakeConn) request() (r fakeRequest, ok bool) {
	size := requestSize
	if c.form == ExtendedReplies {
		size = extendedRequestSize
	}
	p, ok := c.take(size)
	if !ok {
		return r, false
	}
	r.flags, r.cmd = binary.BigEndian.Uint16(p[4:]), command(binary.BigEndian.Uint16(p[6:]))
	r.cookie, r.off = binary.BigEndian.Uint64(p[8:]), binary.BigEndian.Uint64(p[16:])
	if c.form == ExtendedReplies {
		r.n = binary.BigEndian.Uint64(p[24:])
	} else {
		r.n = uint64(binary.BigEndian.Uint32(p[24:]))
	}
	if r.cmd == cmdWrite {
		r.payload, ok = c.take(int(r.n))
	}
	return r, ok && r.cmd != cmdDisc
}

func simpleBytes(cookie uint64, code uint32, data []byte) []byte {
	return slices.Concat(be32(magicSimpleReply), be32(code), be64(cookie), data)
}

func chunkBytes(form Replies, r fakeRequest, flags, kind uint16, data ...[]byte) []byte {
	p := slices.Concat(data...)
	if form == ExtendedReplies {
		return slices.Concat(be32(magicExtendedReply), be16(flags), be16(kind), be64(r.cookie), be64(r.off), be64(uint64(len(p))), p)
	}
	return slices.Concat(be32(magicStructuredReply), be16(flags), be16(kind), be64(r.cookie), be32(uint32(len(p))), p)
}

// ack is success for a request that wants no data.
func (c *fakeConn) ack(r fakeRequest) {
	if c.form == SimpleReplies {
		c.Write(simpleBytes(r.cookie, 0, nil))
		return
	}
	c.Write(chunkBytes(c.form, r, chunkFlagDone, chunkNone))
}
