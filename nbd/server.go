package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/budget"
	"github.com/strata-storage/strata/internal/socket"
)

// ErrServerClosed is returned by Serve and ServeConn after Shutdown or Close.
var ErrServerClosed = errors.New("nbd: server closed")

// TLSMode says when a server speaks TLS.
type TLSMode int

const (
	// TLSOff refuses TLS.
	TLSOff TLSMode = iota
	// TLSOptional lets the client choose. Exports with RequireTLS are only
	// there for clients that chose it.
	TLSOptional
	// TLSRequired tells nothing before TLS has been established.
	TLSRequired
)

// A Server serves exports over connections. The zero value is ready, and has
// nothing to serve. Fields must not be changed after the first method call.
type Server struct {
	// Exports finds the devices.
	Exports Resolver
	// Wrap, if not nil, is put around the device of every connection: the
	// scope of hooks that concern all exports. It is called for each
	// connection, and whenever a client only asks about an export; what it
	// returns is never closed.
	Wrap block.Layer
	// TLS mode. TLSOptional and TLSRequired need TLSConfig.
	TLS TLSMode
	// TLSConfig is the configuration for STARTTLS; TLSFiles makes one.
	TLSConfig *tls.Config
	// Limits bound what clients can make the server spend.
	Limits Limits
	// Log receives what an operator wants to know; nil is silent.
	Log *slog.Logger
	// Ended, if not nil, is called with the final counters of every
	// connection that ends, for those who keep sums.
	Ended func(ConnStatus)

	once     sync.Once
	err      error  // what is wrong with the fields
	limits   Limits // Limits with defaults
	memory   budget.Budget
	log      *slog.Logger
	ctx      context.Context // cancelled by Close
	cancel   context.CancelFunc
	serving  sync.WaitGroup // connections
	lingerer atomic.Pointer[lingering]

	mu        sync.Mutex
	closed    bool
	listeners socket.Listeners
	conns     map[*serverConn]struct{}
	perAddr   map[string]int
	lastID    uint64
}

// init validates the fields, once.
func (s *Server) init() error {
	s.once.Do(func() {
		s.limits = s.Limits.withDefaults()
		s.err = s.Limits.Validate()
		if s.err == nil && s.TLS != TLSOff && s.TLSConfig == nil {
			s.err = errors.New("nbd: TLS needs a TLSConfig")
		}
		s.memory.Give(s.limits.Bytes)
		s.log = s.Log
		if s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.conns = map[*serverConn]struct{}{}
		s.perAddr = map[string]int{}
	})
	return s.err
}

// Serve accepts connections from l until Shutdown or Close, when it returns
// ErrServerClosed, or until l fails. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if err := s.init(); err != nil {
		return err
	}
	err := s.listeners.Accept(s.ctx, l, s.log, func(conn net.Conn) { go s.ServeConn(s.ctx, socket.New(conn)) })
	if s.isClosed() {
		return ErrServerClosed
	}
	return err
}

// ServeConn speaks to one client and closes conn. It returns nil when the
// client has left in an orderly way, before or after choosing an export, and
// otherwise what ended the connection. Cancelling ctx ends it at once.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	if err := s.init(); err != nil {
		return err
	}
	c, err := s.admit(conn)
	if err != nil {
		s.log.Info("connection refused", "peer", peerName(conn.RemoteAddr()), "error", err)
		return err
	}
	defer s.dismiss(c)
	defer conn.Close() // whom nobody counts is closed
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer context.AfterFunc(s.ctx, func() { cancel(ErrServerClosed) })()

	err = c.serve(ctx, cancel)
	switch {
	case s.isClosed():
		err = ErrServerClosed
	case err != nil:
		s.log.Info("connection ended", "peer", c.peerName, "export", c.exportName(), "error", err)
	default:
		s.log.Debug("connection ended", "peer", c.peerName, "export", c.exportName())
	}
	return err
}

// admit registers a connection, if the limits allow one more.
func (s *Server) admit(conn net.Conn) (*serverConn, error) {
	host := ""
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		host = a.IP.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrServerClosed
	case len(s.conns) >= s.limits.Conns:
		return nil, fmt.Errorf("nbd: there are %d connections already", s.limits.Conns)
	case host != "" && s.perAddr[host] >= s.limits.ConnsPerAddr:
		return nil, fmt.Errorf("nbd: there are %d connections from %s already", s.limits.ConnsPerAddr, host)
	}
	s.lastID++
	c := &serverConn{
		server: s, id: s.lastID, conn: conn, host: host, since: time.Now(),
		peerName: peerName(conn.RemoteAddr()),
	}
	s.conns[c] = struct{}{}
	if host != "" {
		s.perAddr[host]++
	}
	s.serving.Add(1)
	return c, nil
}

// dismiss undoes admit. A connection is in Conns or has been given to Ended,
// never neither.
func (s *Server) dismiss(c *serverConn) {
	if s.Ended != nil {
		s.Ended(c.status())
	}
	s.mu.Lock()
	delete(s.conns, c)
	if c.host != "" {
		if s.perAddr[c.host]--; s.perAddr[c.host] == 0 {
			delete(s.perAddr, c.host)
		}
	}
	s.mu.Unlock()
	s.serving.Done()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// stopListening makes Serve return and refuses new connections.
func (s *Server) stopListening() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.listeners.Close()
}

// Shutdown closes the listeners, lets every connection answer the requests
// that it has received, closes the connections and returns nil. When ctx ends
// first it closes what is left as Close does and returns the cause.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.init(); err != nil {
		return err
	}
	s.stopListening()
	s.Drain(func(ConnStatus) bool { return true })
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
		s.cancel()
		<-done
		return context.Cause(ctx)
	}
}

// Close closes the listeners and all connections and waits until no request
// is in flight any more. Requests that were not answered are lost.
func (s *Server) Close() error {
	if err := s.init(); err != nil {
		return err
	}
	s.stopListening()
	s.cancel()
	s.serving.Wait()
	return nil
}

// Drain ends the connections that match: each answers the requests that it
// has received and is then closed. Drain does not wait for that. It returns
// how many there are.
func (s *Server) Drain(match func(ConnStatus) bool) int {
	n := 0
	for _, c := range s.snapshot() {
		if match(c.status()) {
			c.drain()
			n++
		}
	}
	return n
}

// Conns describes the connections there are, oldest first.
func (s *Server) Conns() []ConnStatus {
	conns := s.snapshot()
	list := make([]ConnStatus, len(conns))
	for i, c := range conns {
		list[i] = c.status()
	}
	return list
}
