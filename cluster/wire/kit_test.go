package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"
)

// Operations of the tests.
const (
	opEcho   Op = iota + 1 // head and payload come back
	opInline               // the same in the reader
	opRead                 // payload of as many bytes as there is room
	opFail                 // fails with what failure returns for the head
	opBlock                // until its context ends
	opCount                // a stream of as many items as the head says
)

var (
	self    = Identity{"c1", "a", "1"}
	partner = Identity{"c1", "b", "7"}
)

func echo(_ context.Context, r *Request) error {
	p, err := r.Buffer(len(r.Payload()))
	if err != nil {
		return err
	}
	copy(p, r.Payload())
	return r.SetHead(r.Head())
}

func read(_ context.Context, r *Request) error {
	_, err := r.Buffer(r.Room())
	return err
}

func blocking(ctx context.Context, r *Request) error {
	<-ctx.Done()
	return ctx.Err()
}

func count(_ context.Context, r *Request) error {
	if len(r.Head()) != 8 {
		return ErrMalformed
	}
	n := binary.BigEndian.Uint32(r.Head())
	if binary.BigEndian.Uint32(r.Head()[4:]) > 1<<20 {
		return ErrMalformed
	}
	payload := make([]byte, binary.BigEndian.Uint32(r.Head()[4:]))
	for i := range n {
		if err := r.Send(binary.BigEndian.AppendUint32(nil, i), payload); err != nil {
			return err
		}
	}
	return nil
}

func operations() map[Op]Operation {
	return map[Op]Operation{
		opEcho:   {Handler: echo},
		opInline: {Handler: echo, Inline: true},
		opRead:   {Handler: read},
		opBlock:  {Handler: blocking},
		opCount:  {Handler: count},
	}
}

func newServer(more ...func(*Server)) *Server {
	s := &Server{Self: partner, Operations: operations()}
	for _, f := range more {
		f(s)
	}
	return s
}

// piped is Options for s through net.Pipe.
func piped(s *Server, more ...func(*Options)) Options {
	o := Options{Self: self, Node: partner.Node, Dial: func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go s.ServeConn(b)
		return a, nil
	}}
	for _, f := range more {
		f(&o)
	}
	return o
}

// over is Options for s through a socket.
func over(t testing.TB, s *Server, more ...func(*Options)) Options {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	o := Options{Self: self, Node: partner.Node, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}
	for _, f := range more {
		f(&o)
	}
	return o
}

func connect(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// within fails the test if f takes long.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not end", what)
	}
}

// expect fails the test unless err is target.
func expect(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, expected %v", err, target)
	}
}
