package nbd

import (
	"context"
	"net"
	"testing"
)

// TestStatusBeforeServe asks about connections while the first one begins.
func TestStatusBeforeServe(t *testing.T) {
	t.Parallel()
	s := &Server{}
	a, b := net.Pipe()
	b.Close()
	done := make(chan struct{})
	go func() {
		s.ServeConn(context.Background(), a)
		close(done)
	}()
	s.Conns()
	s.Drain(func(ConnStatus) bool { return true })
	<-done
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
