package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
)

// What the reader cannot do at once is done by the handler, with the same request.
func TestTry(t *testing.T) {
	t.Parallel()
	const (
		opTried Op = 50 + iota
		opNever
		opRefused
	)
	tried := func(r *Request) (bool, error) { return true, echo(context.Background(), r) }
	never := func(r *Request) (bool, error) {
		_, err := r.Buffer(1) // is no part of the reply
		return false, err
	}
	refused := func(*Request) (bool, error) { return true, syscall.EDOM }
	s := newServer(func(s *Server) {
		s.Operations[opTried] = Operation{Handler: blocking, Try: tried}
		s.Operations[opNever] = Operation{Handler: echo, Try: never}
		s.Operations[opRefused] = Operation{Handler: blocking, Try: refused}
	})
	c := connect(t, over(t, s))
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			op := opTried + Op(i%2)
			want := bytes.Repeat([]byte{byte(i)}, 1+i*500)
			r, err := c.Do(t.Context(), Call{Op: op, Head: want[:1], Payload: want, Into: make([]byte, len(want)+1)})
			if err != nil || !bytes.Equal(r.Payload, want) || !bytes.Equal(r.Head, want[:1]) {
				t.Errorf("operation %d, %d bytes: %d bytes came, %v", op, len(want), len(r.Payload), err)
			}
		})
	}
	all.Wait()
	_, err := c.Do(t.Context(), Call{Op: opRefused})
	var answer *RemoteError
	if !errors.As(err, &answer) {
		t.Error(fmt.Errorf("refused: %w", err))
	}
}
