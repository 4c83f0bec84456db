package socket

import (
	"context"
	"log/slog"
	"net"
	"sync"
)

// Listeners are those that a server accepts connections from, until Close. The zero value is
// ready.
type Listeners struct {
	mu     sync.Mutex
	closed bool
	open   map[net.Listener]struct{}
}

// Accept is the function of that name, until Close, and closes l. The error does not matter
// after Close.
func (s *Listeners) Accept(ctx context.Context, l net.Listener, log *slog.Logger, serve func(net.Conn)) error {
	defer l.Close()
	if !s.add(l) {
		return net.ErrClosed
	}
	defer s.remove(l)
	return Accept(ctx, l, log, serve)
}

func (s *Listeners) add(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = map[net.Listener]struct{}{}
	}
	s.open[l] = struct{}{}
	return true
}

func (s *Listeners) remove(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
}

// Close closes all of them, and those that come later.
func (s *Listeners) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for l := range s.open {
		l.Close()
	}
}
