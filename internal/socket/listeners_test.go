package socket

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
)

// Those that are there are closed, and those that come later, and nobody is served then.
func TestListeners(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	var s Listeners
	served := make(chan net.Conn)
	accept := func(l net.Listener) error {
		return s.Accept(t.Context(), l, slog.New(slog.DiscardHandler), func(c net.Conn) { served <- c })
	}
	var all sync.WaitGroup
	for range 2 {
		l := listen()
		all.Go(func() {
			if err := accept(l); !errors.Is(err, net.ErrClosed) {
				t.Errorf("it ended with %v", err)
			}
		})
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		(<-served).Close()
	}
	s.Close()
	all.Wait()
	late := listen()
	if err := accept(late); !errors.Is(err, net.ErrClosed) {
		t.Errorf("one that is late: %v", err)
	}
	if _, err := late.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("one that is late is not closed: %v", err)
	}
	if len(s.open) != 0 {
		t.Errorf("%d are left", len(s.open))
	}
}
