package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
)

// ConnStatus describes a connection to a server.
type ConnStatus struct {
	ID    uint64    `json:"id"`
	Peer  string    `json:"peer"`
	Since time.Time `json:"since"`
	TLS   bool      `json:"tls"`
	// Export is the name of the export, or empty; Ready tells a connection
	// to the export named "" from one that still negotiates.
	Export string `json:"export"`
	Ready  bool   `json:"ready"`
	// Resolved is what the Resolver has returned to the connection, nil
	// until it is ready. It must not be changed.
	Resolved *Export `json:"-"`
	// Requests, Errors, BytesRead and BytesWritten count what has been
	// answered, InFlight what is being worked on.
	Requests     uint64 `json:"requests"`
	Errors       uint64 `json:"errors"`
	BytesRead    uint64 `json:"bytes_read"`
	BytesWritten uint64 `json:"bytes_written"`
	InFlight     int    `json:"in_flight"`
}

// A serverConn is one client. It negotiates, then transmits.
type serverConn struct {
	server   *Server
	id       uint64
	conn     net.Conn
	host     string // IP address, for the limit of connections
	peerName string
	since    time.Time

	draining atomic.Bool
	session  atomic.Pointer[session]                 // set when negotiation has ended
	stop     atomic.Pointer[context.CancelCauseFunc] // ends the negotiation, which may wait for a device
	counters counters
}

// counters of a connection.
type counters struct {
	requests, errors, read, written atomic.Uint64
	inFlight                        atomic.Int64
}

// session is what client and server have agreed on.
type session struct {
	export *Export
	device block.Device // with everything that is wrapped around it
	info   block.Info
	name   string // as the client asked for it
	flags  uint16 // transmission flags
	// structured and extended say which replies the client understands.
	structured, extended bool
	contexts             []metaContext
	tls                  *tls.ConnectionState
}

// metaContext is a metadata context that the client has selected.
type metaContext struct {
	id   uint32
	name string
}

func (c *serverConn) exportName() string {
	if s := c.session.Load(); s != nil {
		return s.export.Name
	}
	return ""
}

func (c *serverConn) status() ConnStatus {
	st := ConnStatus{
		ID: c.id, Peer: c.peerName, Since: c.since,
		Requests: c.counters.requests.Load(), Errors: c.counters.errors.Load(),
		BytesRead: c.counters.read.Load(), BytesWritten: c.counters.written.Load(),
		InFlight: int(c.counters.inFlight.Load()),
	}
	if s := c.session.Load(); s != nil {
		st.Export, st.Ready, st.TLS, st.Resolved = s.export.Name, true, s.tls != nil, s.export
	}
	return st
}

// snapshot returns the connections, oldest first.
func (s *Server) snapshot() []*serverConn {
	s.init() // may be the first call; without connections its error does not matter
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *serverConn) int { return int(int64(a.id - b.id)) })
	return list
}

// errDrained ends a negotiation.
var errDrained = errors.New("nbd: the connection is to end")

// drain makes the connection end after the requests that it has received.
func (c *serverConn) drain() {
	c.draining.Store(true)
	if stop := c.stop.Load(); stop != nil {
		(*stop)(errDrained)
	}
	c.conn.SetReadDeadline(time.Unix(1, 0))
}

// serve runs the whole life of the connection. cancel ends its requests.
func (c *serverConn) serve(ctx context.Context, cancel context.CancelCauseFunc) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("panic", "peer", c.peerName, "export", c.exportName(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("nbd: panic: %v", p)
		}
		if c.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
	}()
	c.conn.SetDeadline(time.Now().Add(c.server.limits.Handshake))
	negotiating, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c.stop.Store(&stop)
	if c.draining.Load() {
		return nil
	}
	sess, conn, err := c.negotiate(negotiating)
	c.stop.Store(nil)
	if err != nil || sess == nil {
		return describeEnd(err, "during negotiation")
	}
	if sess.export.Release != nil {
		defer sess.export.Release()
	}
	c.conn.SetDeadline(time.Time{})
	if c.draining.Load() {
		return nil
	}
	c.server.log.Debug("export opened", "peer", c.peerName, "export", sess.export.Name, "tls", sess.tls != nil)
	c.session.Store(sess)
	caller := &block.Caller{Export: sess.export.Name, Peer: c.peerName, Identity: identity(sess.tls)}
	t := newTransmission(block.WithCaller(ctx, caller), cancel, c, sess, conn)
	return describeEnd(t.run(), "")
}

// describeEnd turns the ways in which a client may leave into nil and adds
// what an operator wants to know to the others.
func describeEnd(err error, when string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) && when == "":
		return nil
	case when != "":
		return fmt.Errorf("nbd: %s: %w", when, err)
	}
	return fmt.Errorf("nbd: %w", err)
}

// identity is the subject of the client's certificate.
func identity(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.String()
}

// isUnix reports whether conn is a Unix socket.
func isUnix(conn net.Conn) bool {
	a := conn.LocalAddr()
	return a != nil && a.Network() == "unix"
}

// peerName is an address for people.
func peerName(addr net.Addr) string {
	if addr == nil {
		return "unknown"
	}
	if name := addr.String(); name != "" && name != "@" {
		return name
	}
	return addr.Network()
}
