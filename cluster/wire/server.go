package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"

	"github.com/strata-storage/strata/internal/budget"
	"github.com/strata-storage/strata/internal/socket"
)

// A Server carries out requests of other nodes. Its fields must not be changed once
// it is used.
type Server struct {
	// Self is this node.
	Self Identity
	// Operations are what it can do.
	Operations map[Op]Operation
	// TLS is how connections are protected; nil is for tests. It should ask for
	// certificates of clients and verify them.
	TLS *tls.Config
	// Verify decides whether a client is the node that it says it is and may be
	// served, by its certificate. state is nil without TLS. It is required with TLS.
	Verify func(state *tls.ConnectionState, peer Identity) error
	// Limits bound what clients can make it spend.
	Limits Limits
	// Errors are errors with codes of their own.
	Errors []ErrorCode
	// Log is told of clients that were refused or cut off. It may be nil.
	Log *slog.Logger

	once     sync.Once
	invalid  error
	limits   Limits
	codec    *codec
	memory   budget.Budget
	handlers []Operation
	work     sync.WaitGroup // connections

	mu        sync.Mutex
	going     bool
	sessions  map[SessionID]*Session
	greeting  map[net.Conn]struct{} // connections that are no part of a session yet
	listeners socket.Listeners
}

// maxGreeting bounds the connections that are no part of a session yet.
const maxGreeting = 256

// prepare checks the fields.
func (s *Server) prepare() error {
	s.once.Do(func() { s.invalid = s.check() })
	return s.invalid
}

func (s *Server) check() (err error) {
	if err := s.Self.validate(); err != nil {
		return err
	}
	if err := s.Limits.Validate(); err != nil {
		return err
	}
	if s.TLS != nil && s.Verify == nil {
		return errors.New("wire: Server has TLS, and no Verify to say whose certificate is whose")
	}
	s.handlers = make([]Operation, MaxOp+1)
	for op, o := range s.Operations {
		if op > MaxOp || o.Handler == nil {
			return fmt.Errorf("wire: operation %d without a handler, or greater than %d", op, MaxOp)
		}
		s.handlers[op] = o
	}
	s.limits = s.Limits.WithDefaults()
	s.memory.Give(s.limits.TotalBytes)
	s.mu.Lock() // End and Shutdown may be called before
	s.sessions = map[SessionID]*Session{}
	s.greeting = map[net.Conn]struct{}{}
	s.mu.Unlock()
	s.codec, err = newCodec(s.Errors)
	return err
}

func (s *Server) tlsServer(nc net.Conn) *tls.Conn { return tls.Server(nc, s.TLS) }

// handler returns what is done for op. going means that nothing new is begun.
func (s *Server) handler(op Op, going bool) *Operation {
	switch {
	case going:
		return &refusing
	case op > MaxOp || s.handlers[op].Handler == nil:
		return &unknown
	}
	return &s.handlers[op]
}

var (
	refusing = Operation{Handler: refuseGoing, Inline: true}
	unknown  = Operation{Handler: refuseUnknown, Inline: true}
)

func refuseGoing(context.Context, *Request) error { return ErrGoingAway }

func refuseUnknown(_ context.Context, r *Request) error {
	return fmt.Errorf("%w %d", ErrUnknownOp, r.op)
}

// Serve accepts connections from l until the server is shut down, and returns nil
// then. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if err := s.prepare(); err != nil {
		return err
	}
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// The listener is closed when the server is shut down.
	err := s.listeners.Accept(context.Background(), l, log, func(nc net.Conn) { go s.ServeConn(nc) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.going {
		return nil
	}
	return err
}

// ServeConn serves one connection, and returns why it ended when nothing of it is at
// work any more. It closes nc.
func (s *Server) ServeConn(nc net.Conn) error {
	defer nc.Close()
	if err := s.prepare(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.going {
		s.mu.Unlock()
		return ErrGoingAway
	}
	if len(s.greeting) >= maxGreeting {
		s.mu.Unlock()
		return fmt.Errorf("%w: %d are being greeted", ErrTooMany, maxGreeting)
	}
	s.greeting[nc] = struct{}{}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	t, session, limits, err := s.greet(nc)
	s.mu.Lock()
	delete(s.greeting, nc)
	s.mu.Unlock()
	if session != nil {
		if err == nil {
			err = s.serve(t, session, limits)
		} else {
			session.leave(nil, err)
		}
	}
	s.tell(nc, session, err)
	return err
}

// left are the errors of connections whose partner has just left.
var left = []error{io.EOF, io.ErrClosedPipe, syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed, ErrUnknownSession}

// tell tells the log why a connection has ended, if an operator may want to know: once for
// all connections of a session, and not if the partner has just left.
func (s *Server) tell(nc net.Conn, session *Session, err error) {
	if s.Log == nil || errors.Is(err, errHungUp) || errors.Is(err, ErrClosed) {
		return
	}
	level := slog.LevelWarn
	if slices.ContainsFunc(left, func(e error) bool { return errors.Is(err, e) }) || session != nil && session.told.Swap(true) {
		level = slog.LevelDebug
	}
	about := []any{"address", nc.RemoteAddr().String(), "error", err}
	if session != nil {
		about = append([]any{"node", session.peer.Node}, about...)
	}
	s.Log.Log(context.Background(), level, "a connection from another node has ended", about...)
}

func (s *Server) serve(t transport, session *Session, limits agreed) error {
	c := newServerConn(s, session, t, limits)
	if !session.attach(c) {
		c.raw.Close()
		session.leave(nil, errEnded)
		return errEnded
	}
	err := c.serve()
	session.leave(c, err)
	return err
}

// Sessions returns who is connected.
func (s *Server) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		all = append(all, session)
	}
	return all
}

// Shutdown accepts no connections any more, tells the clients, refuses new requests
// with ErrGoingAway, and returns when those under way have been answered and the
// clients have hung up. When ctx ends it cuts them off, and returns the reason.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		return err
	}
	s.mu.Lock()
	s.going = true
	s.listeners.Close()
	for nc := range s.greeting {
		nc.Close()
	}
	for _, session := range s.sessions {
		for c := range session.conns {
			go c.sayGoodbye()
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.cut()
		return context.Cause(ctx)
	}
}

// Close cuts off all clients, and returns when nothing is at work any more. The
// contexts of handlers end.
func (s *Server) Close() error {
	if err := s.prepare(); err != nil {
		return err
	}
	s.cut()
	s.work.Wait()
	return nil
}

func (s *Server) cut() {
	s.mu.Lock()
	s.going = true
	var all []*Session
	s.listeners.Close()
	for nc := range s.greeting {
		nc.Close()
	}
	for _, session := range s.sessions {
		all = append(all, session)
	}
	s.mu.Unlock()
	for _, session := range all {
		session.fail(ErrClosed)
	}
}
