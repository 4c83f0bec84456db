package lock

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/strata-storage/strata/internal/clock"
)

// Limits of a server.
const (
	// DefaultLease is the lease of a server that is not told another one.
	DefaultLease = 5 * time.Second
	// MinLease and MaxLease bound the lease.
	MinLease = 50 * time.Millisecond
	MaxLease = 10 * time.Minute
	// helloTime is how long a client may take to say what it wants.
	helloTime = 10 * time.Second
	// serverQueue is how many messages of clients are worked on together.
	serverQueue = 64
)

// ServerOptions are the options of NewServer.
type ServerOptions struct {
	// State is the path of the file that makes generations and leases survive
	// a restart. It is written, durably, whenever a lock goes to another
	// holder. Without a state the server forgets all when it ends; that is for
	// tests.
	State string
	// Lease is how long a holder keeps the lock that is not heard of. 0 is
	// DefaultLease.
	Lease time.Duration
	// MaxConns bounds the connections; 0 is 1024. More are closed.
	MaxConns int
	// MaxLocks bounds the names of locks, which are kept for ever; 0 is 1024.
	MaxLocks int
	// TLS, if not nil, is what clients must speak.
	TLS *tls.Config
	// Clock is the time; nil is that of the system.
	Clock Clock
	// Log gets what an administrator may want to know; nil is nobody.
	Log *slog.Logger
}

// A Server grants locks, told apart by name, to parties that reach it by Dial.
type Server struct {
	o     ServerOptions
	table table      // of the goroutine run
	state *stateFile // nil without; of the goroutine run
	in    chan event
	ended chan struct{} // run has ended
	quit  chan struct{} // Close was called, or the state cannot be saved

	mu        sync.Mutex
	shut      bool
	err       error
	listeners map[net.Listener]struct{}
	conns     map[net.Conn]struct{}
	all       sync.WaitGroup
}

// An event is a message of a member, or its end.
type event struct {
	member  *member
	message *message // nil at the end
}

// NewServer returns a server with the state that is in the file. It waits for
// the leases that an earlier one has given, unless their holders come back.
func NewServer(o ServerOptions) (*Server, error) {
	o.Lease = cmp.Or(o.Lease, DefaultLease)
	o.MaxConns = cmp.Or(o.MaxConns, 1024)
	o.MaxLocks = cmp.Or(o.MaxLocks, 1024)
	if o.Lease < MinLease || o.Lease > MaxLease || o.Lease%time.Millisecond != 0 {
		return nil, fmt.Errorf("lock server: a lease of %v, expected whole milliseconds from %v to %v", o.Lease, MinLease, MaxLease)
	}
	if o.MaxConns < 0 || o.MaxLocks < 0 || o.MaxLocks > 4096 {
		return nil, fmt.Errorf("lock server: at most %d connections and %d locks, expected up to 4096 locks", o.MaxConns, o.MaxLocks)
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		o:     o,
		table: table{lease: o.Lease, most: o.MaxLocks, locks: map[string]*entry{}},
		in:    make(chan event, serverQueue), ended: make(chan struct{}), quit: make(chan struct{}),
		listeners: map[net.Listener]struct{}{}, conns: map[net.Conn]struct{}{},
	}
	if o.State != "" {
		state, b, err := openState(o.State)
		if err != nil {
			return nil, fmt.Errorf("state of the lock server: %w", err)
		}
		if err := s.table.decodeState(b, o.Clock.Now()); err != nil {
			state.close()
			return nil, fmt.Errorf("state of the lock server: %s: %w", o.State, err)
		}
		s.state = state
	}
	go s.run()
	return s, nil
}

// run is the only goroutine that deals with the table.
func (s *Server) run() {
	defer close(s.ended)
	for {
		tick := make(chan struct{})
		stop := s.o.Clock.AfterFunc(max(0, s.table.due-s.o.Clock.Now()), func() { close(tick) })
		select {
		case e := <-s.in:
			s.handle(e)
		case <-tick:
		case <-s.quit:
			stop()
			s.end()
			return
		}
		stop()
		for range serverQueue { // so that one write of the state serves all
			select {
			case e := <-s.in:
				s.handle(e)
				continue
			default:
			}
			break
		}
		s.table.expire(s.o.Clock.Now())
		if err := s.save(false); err != nil {
			s.o.Log.Error("the lock server ends, its state cannot be saved", "error", err)
			s.stop(err)
			s.state.close()
			return
		}
		s.deliver()
	}
}

func (s *Server) handle(e event) {
	now := s.o.Clock.Now()
	s.table.expire(now)
	m := e.member
	if m.over {
		return
	}
	var err error
	switch {
	case e.message == nil:
		s.table.gone(m)
	case m.entry == nil:
		err = s.table.hello(m, *e.message, now)
	default:
		err = s.table.receive(m, *e.message, now)
	}
	if err != nil {
		s.table.gone(m)
		m.over = true
		s.refuse(m.link, err)
	}
}

// refuse ends a connection and tells the peer why.
func (s *Server) refuse(l *link, err error) {
	s.o.Log.Warn("a lock client was refused", "peer", l.conn.RemoteAddr(), "reason", err)
	l.send(message{kind: msgRefused, text: err.Error()})
	l.finish()
}

// save makes the state durable if that is necessary.
func (s *Server) save(end bool) error {
	if s.state == nil || !s.table.unsaved && !end {
		return nil
	}
	s.table.unsaved = false
	if err := s.state.save(s.table.encodeState(end)); err != nil {
		return fmt.Errorf("state of the lock server: %w", err)
	}
	return nil
}

// deliver sends what the table has said.
func (s *Server) deliver() {
	for _, l := range s.table.out {
		if l.message == nil {
			l.to.link.cut()
		} else {
			l.to.link.send(*l.message)
		}
	}
	clear(s.table.out)
	s.table.out = s.table.out[:0]
}

// end saves who has which lock at the end.
func (s *Server) end() {
	if s.state == nil {
		return
	}
	if err := s.save(true); err != nil {
		s.o.Log.Error("the lock server could not save its state at its end", "error", err)
	}
	s.state.close()
}

// Serve lets clients in through l until l fails or the server ends, and closes
// it. After Close it returns ErrClosed.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.shut {
		defer s.mu.Unlock()
		return s.err
	}
	s.listeners[l] = struct{}{}
	s.all.Add(1)
	s.mu.Unlock()
	defer s.all.Done()
	for {
		c, err := l.Accept()
		var t interface{ Temporary() bool }
		if errors.As(err, &t) && t.Temporary() && s.pause() {
			continue // out of file descriptors, most likely
		}
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, l)
			return cmp.Or(s.err, err)
		}
		s.admit(c)
	}
}

// pause waits a moment, unless the server ends.
func (s *Server) pause() bool {
	tick := make(chan struct{})
	defer s.o.Clock.AfterFunc(100*time.Millisecond, func() { close(tick) })()
	select {
	case <-tick:
		return true
	case <-s.quit:
		return false
	}
}

// admit serves c unless there are too many.
func (s *Server) admit(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut || len(s.conns) >= s.o.MaxConns {
		if !s.shut {
			s.o.Log.Warn("a lock client was refused", "peer", c.RemoteAddr(), "reason", "too many connections")
		}
		c.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.all.Go(func() {
		s.serve(c)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	})
}

// serve reads what a client wants.
func (s *Server) serve(raw net.Conn) {
	defer raw.Close()
	stop := s.o.Clock.AfterFunc(helloTime, func() { raw.Close() })
	defer stop()
	c := raw
	if s.o.TLS != nil {
		t := tls.Server(raw, s.o.TLS)
		if err := t.HandshakeContext(context.Background()); err != nil {
			s.o.Log.Warn("a lock client was refused", "peer", raw.RemoteAddr(), "reason", err)
			return
		}
		c = t
	}
	m := &member{link: newLink(c)}
	defer func() { <-m.link.done }()
	defer m.link.finish()
	for {
		msg, err := receive(c)
		if errors.Is(err, errProtocol) {
			s.refuse(m.link, err)
		}
		if err != nil {
			break
		}
		stop()
		if !s.tell(event{m, &msg}) {
			return
		}
	}
	s.tell(event{m, nil})
}

// tell passes an event to run, unless that has ended.
func (s *Server) tell(e event) bool {
	select {
	case s.in <- e:
		return true
	case <-s.ended:
		return false
	}
}

// stop makes everything end for that reason.
func (s *Server) stop(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	s.shut, s.err = true, err
	close(s.quit)
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	return true
}

// Close ends the server. Holders keep their locks until their leases end, and
// beyond that if there is another server with the same state in time. Close of
// a server that has ended returns why: ErrClosed, or an error of its state.
func (s *Server) Close() error {
	first := s.stop(ErrClosed)
	<-s.ended
	s.all.Wait()
	if first {
		return nil
	}
	return s.err
}
