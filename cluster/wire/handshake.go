package wire

import (
	"fmt"
	"io"
	"net"
	"time"
)

// helloLimits are what applies to the frames before limits are agreed on.
var helloLimits = agreed{head: minHead}

// sendHello sends one of the frames before limits are agreed on.
func sendHello(nc net.Conn, h header, head []byte) error {
	var f frame
	f.set(h, head, nil)
	_, err := nc.Write(f.small)
	return err
}

// receiveHello reads one of those frames, and not one byte more.
func receiveHello(nc net.Conn, h *header) ([]byte, error) {
	var p [headerSize]byte
	if _, err := io.ReadFull(nc, p[:]); err != nil {
		return nil, err
	}
	if err := h.parse(p[:], &helloLimits); err != nil {
		return nil, err
	}
	head := make([]byte, h.head)
	_, err := io.ReadFull(nc, head)
	return head, err
}

// greet is the server's part of a handshake. The error is for the log; the client
// has been told.
func (s *Server) greet(nc net.Conn) (t transport, session *Session, limits agreed, err error) {
	nc.SetDeadline(time.Now().Add(s.limits.Hello))
	t = plain(nc)
	if s.TLS != nil {
		if t, err = overTLS(nc, s.tlsServer); err != nil {
			return t, nil, limits, err
		}
	}
	var h header
	p, err := receiveHello(t.nc, &h)
	if err == nil && h.kind != kindHello {
		err = violation("frame of kind %d in place of a hello", h.kind)
	}
	var in hello
	if err == nil {
		err = in.parse(p)
	}
	if err != nil {
		return t, nil, limits, err
	}
	if session, err = s.welcome(&t, &in); err != nil {
		h, text := s.codec.reply(0, err)
		h.kind = kindRefusal
		sendHello(t.nc, h, text)
		return t, nil, limits, fmt.Errorf("refused node %q: %w", in.who.Node, err)
	}
	out := hello{Version, Version, s.Self, "", in.session, in.lane, s.limits.told()}
	if err = sendHello(t.nc, header{kind: kindWelcome}, out.appendTo(nil)); err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	return t, session, s.limits.told().with(in.limits), err
}

// welcome returns the session that a client begins or joins.
func (s *Server) welcome(t *transport, in *hello) (*Session, error) {
	switch {
	case in.minVersion > Version || in.maxVersion < Version:
		return nil, fmt.Errorf("%w: %d to %d, expected %d", ErrVersion, in.minVersion, in.maxVersion, Version)
	case in.who.Cluster != s.Self.Cluster:
		return nil, fmt.Errorf("%w: %q, expected %q", ErrForeignCluster, in.who.Cluster, s.Self.Cluster)
	case in.to != s.Self.Node:
		return nil, fmt.Errorf("%w: this is %q, and %q was meant", ErrWrongNode, s.Self.Node, in.to)
	case int(in.lane) >= s.limits.Conns:
		return nil, fmt.Errorf("%w: connection %d of a session, of %d at most", ErrTooMany, in.lane+1, s.limits.Conns)
	}
	if s.Verify != nil {
		if err := s.Verify(t.state, in.who); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnverified, err)
		}
	}
	return s.enter(in)
}

// introduce is the client's part of a handshake.
func (c *Client) introduce(nc net.Conn, lane int) (t transport, limits agreed, err error) {
	t = plain(nc)
	if c.o.TLS != nil {
		if t, err = overTLS(nc, c.tlsClient); err != nil {
			return t, limits, err
		}
	}
	out := hello{Version, Version, c.o.Self, c.o.Node, c.session, uint16(lane), c.limits.told()}
	if err = sendHello(t.nc, header{kind: kindHello}, out.appendTo(nil)); err != nil {
		return t, limits, err
	}
	var h header
	p, err := receiveHello(t.nc, &h)
	if err != nil {
		return t, limits, err
	}
	var in hello
	switch h.kind {
	case kindRefusal:
		return t, limits, c.codec.remote(c.o.Node, &h, p)
	case kindWelcome:
		err = in.parse(p)
	default:
		err = violation("frame of kind %d in place of a welcome", h.kind)
	}
	if err == nil {
		err = c.examine(&t, &in, lane)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	return t, c.limits.told().with(in.limits), err
}

// examine checks that the right node has answered.
func (c *Client) examine(t *transport, in *hello, lane int) error {
	switch {
	case in.minVersion != Version || in.maxVersion != Version:
		return fmt.Errorf("%w: %d was chosen, expected %d", ErrVersion, in.maxVersion, Version)
	case in.who.Cluster != c.o.Self.Cluster:
		return fmt.Errorf("%w: %q, expected %q", ErrForeignCluster, in.who.Cluster, c.o.Self.Cluster)
	case in.who.Node != c.o.Node:
		return fmt.Errorf("%w: %q answers, expected %q", ErrWrongNode, in.who.Node, c.o.Node)
	case in.session != c.session || int(in.lane) != lane:
		return violation("welcome to another session or connection")
	case lane > 0 && in.who != c.peer:
		return fmt.Errorf("%w: it was started anew meanwhile", ErrWrongNode)
	}
	if c.o.Verify != nil {
		if err := c.o.Verify(t.state, in.who); err != nil {
			return fmt.Errorf("%w: %w", ErrUnverified, err)
		}
	}
	if lane == 0 {
		c.peer = in.who
	}
	return nil
}
