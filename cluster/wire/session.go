package wire

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// A Session is a client as a server sees it: some connections of one process of one
// node.
type Session struct {
	server *Server
	peer   Identity
	id     SessionID
	ended  chan struct{} // closed when it does not admit anything any more
	gone   chan struct{} // closed when nothing of it is at work any more
	told   atomic.Bool   // the log has why it ended

	// Guarded by server.mu.
	cause error
	users int // connections, handshakes that have joined among them
	lanes map[uint16]bool
	conns map[*serverConn]struct{}
}

// Peer returns who the client is.
func (s *Session) Peer() Identity { return s.peer }

// ID returns the name of the session.
func (s *Session) ID() SessionID { return s.id }

// Ended returns a channel that is closed when the session has ended. Handlers may
// still be at work then.
func (s *Session) Ended() <-chan struct{} { return s.ended }

var errEnded = errors.New("the session was ended")

// enter begins a session or joins one.
func (s *Server) enter(in *hello) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.going {
		return nil, ErrGoingAway
	}
	session := s.sessions[in.session]
	if in.lane == 0 {
		switch {
		case session != nil:
			return nil, fmt.Errorf("%w: session %v exists", ErrUnknownSession, in.session)
		case len(s.sessions) >= s.limits.Sessions:
			return nil, fmt.Errorf("%w: there are %d sessions", ErrTooMany, s.limits.Sessions)
		case s.sessionsOf(in.who.Node) >= s.limits.NodeSessions:
			return nil, fmt.Errorf("%w: there are %d of node %q", ErrTooMany, s.limits.NodeSessions, in.who.Node)
		}
		session = &Session{
			server: s, peer: in.who, id: in.session,
			ended: make(chan struct{}), gone: make(chan struct{}),
			lanes: map[uint16]bool{}, conns: map[*serverConn]struct{}{},
		}
		s.sessions[in.session] = session
	}
	switch {
	case session == nil || session.cause != nil || session.peer != in.who:
		return nil, fmt.Errorf("%w: %v", ErrUnknownSession, in.session)
	case session.lanes[in.lane]:
		return nil, fmt.Errorf("%w: session %v has a connection %d", ErrUnknownSession, in.session, in.lane)
	}
	session.lanes[in.lane] = true
	session.users++
	return session, nil
}

// sessionsOf counts those of a node. The caller holds mu.
func (s *Server) sessionsOf(node string) (n int) {
	for _, session := range s.sessions {
		if session.peer.Node == node {
			n++
		}
	}
	return n
}

// attach gives the session a connection. It returns false if it has ended.
func (s *Session) attach(c *serverConn) bool {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.cause != nil {
		return false
	}
	s.conns[c] = struct{}{}
	if s.server.going {
		go c.sayGoodbye()
	}
	return true
}

// leave is for who has entered, once nothing of the connection is at work. c may be
// nil.
func (s *Session) leave(c *serverConn, cause error) {
	s.fail(cause)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	delete(s.conns, c)
	if s.users--; s.users == 0 {
		delete(s.server.sessions, s.id)
		close(s.gone)
	}
}

// fail ends the session.
func (s *Session) fail(cause error) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.cause != nil {
		return
	}
	s.cause = cause
	close(s.ended)
	for c := range s.conns {
		c.fail(cause)
	}
}

// End ends the sessions for which match returns true, and returns when nothing of
// them is at work any more: no request that they have sent is executed later. It
// waits for handlers, whose contexts end, but not longer than ctx. match must not
// call the server, and must be quick.
func (s *Server) End(ctx context.Context, match func(*Session) bool) error {
	if err := s.prepare(); err != nil {
		return err
	}
	s.mu.Lock()
	var ending []*Session
	for _, session := range s.sessions {
		if match(session) {
			ending = append(ending, session)
		}
	}
	s.mu.Unlock()
	for _, session := range ending {
		session.fail(errEnded)
	}
	for _, session := range ending {
		select {
		case <-session.gone:
		case <-ctx.Done():
			return fmt.Errorf("wire: requests of node %s are still at work: %w", session.peer.Node, context.Cause(ctx))
		}
	}
	return nil
}
