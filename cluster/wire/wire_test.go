package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestEcho(t *testing.T) {
	t.Parallel()
	_, tlsOptions := overTLSLoopback(t)
	for name, o := range map[string]Options{"pipe": piped(newServer()), "tcp": over(t, newServer()), "tls": tlsOptions} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connect(t, o)
			for _, op := range []Op{opEcho, opInline} {
				for _, n := range []int{0, 1, 511, 512, 513, 4096, 64 << 10, 200_000, 8 << 20} {
					payload := bytes.Repeat([]byte{byte(n), 1, 2}, n/3+1)[:n]
					into := make([]byte, n)
					r, err := c.Do(t.Context(), Call{Op: op, Head: []byte("head"), Payload: payload, Into: into, HeadInto: []byte("a")})
					if err != nil {
						t.Fatal(err)
					}
					if string(r.Head) != "ahead" || !bytes.Equal(r.Payload, payload) {
						t.Fatalf("%d bytes came back otherwise, with head %q", n, r.Head)
					}
				}
			}
		})
	}
}

// Many goroutines, all kinds of requests, some of them cancelled: every reply is the
// one to its request, and no memory is touched after a return. However long the
// machine has no time for some of them, nobody is taken for dead.
func TestMixture(t *testing.T) {
	t.Parallel()
	calm := func(l *Limits) { l.Silence, l.Frame, l.Hello, l.Timeout = time.Hour, time.Hour, time.Hour, time.Hour }
	server := func(s *Server) { calm(&s.Limits) }
	_, tlsOptions := overTLSLoopback(t, server)
	small := func(o *Options) { o.Limits = Limits{Requests: 8, Payload: 128 << 10, Bytes: 512 << 10}; o.Conns = 3 }
	for name, o := range map[string]Options{"pipe": piped(newServer(server)), "tcp": over(t, newServer(server), small), "tls": tlsOptions} {
		calm(&o.Limits)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connect(t, o)
			var work sync.WaitGroup
			for seed := range uint64(16) {
				work.Go(func() { mixture(t, c, rand.New(rand.NewPCG(seed, 1))) })
			}
			work.Wait()
			if err := c.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func mixture(t *testing.T, c *Client, rnd *rand.Rand) {
	for range 25 {
		n := []int{0, 100, 4096, 65536, 100_000}[rnd.IntN(5)]
		payload, into := make([]byte, n), make([]byte, n)
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		ctx, cancel := context.WithCancel(t.Context())
		if rnd.IntN(3) == 0 {
			time.AfterFunc(time.Duration(rnd.IntN(200))*time.Microsecond, cancel)
		}
		op := []Op{opEcho, opInline}[rnd.IntN(2)]
		r, err := c.Do(ctx, Call{Op: op, Head: payload[:min(n, 20)], Payload: payload, Into: into})
		switch {
		case err == nil && (!bytes.Equal(r.Payload, payload) || !bytes.Equal(r.Head, payload[:min(n, 20)])):
			t.Errorf("%d bytes came back otherwise", n)
		case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, syscall.ECANCELED):
			t.Error(err)
		}
		clear(into) // the race detector objects if somebody still uses it
		clear(payload)
		if rnd.IntN(4) == 0 {
			streamed(t, c, rnd)
		}
		cancel()
	}
}

// streamed reads a stream, or a part of one.
func streamed(t *testing.T, c *Client, rnd *rand.Rand) {
	n, size, leave := rnd.Uint32N(200), rnd.Uint32N(9000), rnd.Uint32N(300)
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, n), size)
	var got uint32
	for i, err := range c.Stream(t.Context(), Call{Op: opCount, Head: head}) {
		if err != nil {
			t.Error(err)
			return
		}
		if binary.BigEndian.Uint32(i.Head) != got || len(i.Payload) != int(size) {
			t.Errorf("item %d is %x with %d bytes", got, i.Head, len(i.Payload))
		}
		if got++; got == leave {
			return
		}
	}
	if got != n {
		t.Errorf("%d items came, expected %d", got, n)
	}
}

func TestErrorsCross(t *testing.T) {
	t.Parallel()
	own := errors.New("a refusal of the test")
	for i, test := range []struct {
		err, is error
		code    Code
		detail  uint64
	}{
		{syscall.ENOSPC, syscall.ENOSPC, CodeNoSpace, 0},
		{fmt.Errorf("disk d: %w", syscall.EROFS), syscall.EROFS, CodeReadOnly, 0},
		{errors.New("whatever"), syscall.EIO, CodeIO, 0},
		{WithDetail(fmt.Errorf("group 3: %w", ErrStaleEpoch), 1<<40+5), ErrStaleEpoch, CodeStaleEpoch, 1<<40 + 5},
		{ErrStaleEpoch, syscall.ESTALE, CodeStaleEpoch, 0},
		{ErrStaleGeneration, ErrStaleGeneration, CodeStaleGeneration, 0},
		{ErrNotMember, ErrNotMember, CodeNotMember, 0},
		{context.DeadlineExceeded, syscall.ETIMEDOUT, CodeTimedOut, 0},
		{fmt.Errorf("x: %w", own), own, 300, 0},
		{errors.New(strings.Repeat("long", 1000)), syscall.EIO, CodeIO, 0},
		{errors.New("two\nlines\x1b[2J"), syscall.EIO, CodeIO, 0},
	} {
		codes := []ErrorCode{{300, own}}
		s := newServer(func(s *Server) {
			s.Errors = codes
			s.Operations[opFail] = Operation{Handler: func(context.Context, *Request) error { return test.err }, Inline: i%2 == 0}
		})
		c := connect(t, piped(s, func(o *Options) { o.Errors = codes }))
		_, err := c.Do(t.Context(), Call{Op: opFail})
		var remote *RemoteError
		if !errors.As(err, &remote) {
			t.Fatalf("got %v, expected an answer of the node", err)
		}
		expect(t, err, test.is)
		if remote.Code != test.code || remote.Detail != test.detail || remote.Node != partner.Node {
			t.Errorf("%v came as code %d, detail %d of node %q", test.err, remote.Code, remote.Detail, remote.Node)
		}
		if len(remote.Text) > maxText || strings.ContainsAny(remote.Text, "\n\x1b") {
			t.Errorf("text came as %q", remote.Text)
		}
	}
}

func TestUnknownOperation(t *testing.T) {
	t.Parallel()
	c := connect(t, piped(newServer()))
	for _, op := range []Op{0, 77, MaxOp, MaxOp + 1, 65535} {
		_, err := c.Do(t.Context(), Call{Op: op, Payload: make([]byte, 5000)})
		expect(t, err, ErrUnknownOp)
		expect(t, err, syscall.ENOTSUP)
	}
	if _, err := c.Do(t.Context(), Call{Op: opEcho}); err != nil {
		t.Fatalf("and then: %v", err)
	}
}

func TestTooLargeIsNotSent(t *testing.T) {
	t.Parallel()
	c := connect(t, piped(newServer(func(s *Server) { s.Limits = Limits{Head: 4096, Payload: 8192} })))
	for _, r := range []Call{{Head: make([]byte, 4097)}, {Payload: make([]byte, 8193)}, {Into: make([]byte, 8193)}} {
		r.Op = opEcho
		_, err := c.Do(t.Context(), r)
		expect(t, err, ErrTooLarge)
	}
	if _, err := c.Do(t.Context(), Call{Op: opEcho, Head: make([]byte, 4096), Payload: make([]byte, 8192), Into: make([]byte, 8192)}); err != nil {
		t.Fatal(err)
	}
}

// A reply that the client has no room for is an error of the handler.
func TestReplyNeedsRoom(t *testing.T) {
	t.Parallel()
	c := connect(t, piped(newServer()))
	_, err := c.Do(t.Context(), Call{Op: opEcho, Payload: make([]byte, 10), Into: make([]byte, 9)})
	expect(t, err, syscall.EINVAL)
	_, err = c.Do(t.Context(), Call{Op: opCount, Head: []byte{0, 0, 0, 1, 0, 0, 0, 1}})
	expect(t, err, syscall.EINVAL) // no stream
}

// A cancelled request waits for its bytes to leave, but not for ever: half as long as a
// partner may be silent.
func TestCancelledIsNotTaken(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(func(s *Server) { s.Limits.Silence = time.Hour })
			held := make(chan struct{})
			var block atomic.Bool
			c := connect(t, Options{Self: self, Node: partner.Node, Conns: 1, Limits: Limits{Silence: 10 * time.Second}, Dial: func(context.Context) (net.Conn, error) {
				a, b := net.Pipe()
				go s.ServeConn(heldConn{b, &block, held})
				return a, nil
			}})
			block.Store(true)
			ctx, cancel := context.WithCancel(t.Context())
			began := time.Now()
			time.AfterFunc(time.Second, cancel)
			expected := 6 * time.Second
			if taken {
				time.AfterFunc(5*time.Second, func() { close(held) })
				expected = 5 * time.Second
			}
			_, err := c.Do(ctx, Call{Op: opEcho, Payload: make([]byte, 1<<20), Into: make([]byte, 1<<20)})
			expect(t, err, context.Canceled)
			if waited := time.Since(began); waited != expected {
				t.Errorf("it took %v to give up, expected %v", waited, expected)
			}
			if taken {
				_, err = c.Do(t.Context(), Call{Op: opEcho})
				if err != nil {
					t.Errorf("and then: %v", err)
				}
			} else {
				<-c.Ended()
				expect(t, c.Err(), errNotTaken)
				close(held)
			}
			c.Close()
			synctest.Wait()
		})
	}
}

// A heldConn receives nothing while it is blocked, until held is closed.
type heldConn struct {
	net.Conn
	block *atomic.Bool
	held  chan struct{}
}

func (c heldConn) Read(p []byte) (int, error) {
	if c.block.Load() {
		<-c.held
	}
	return c.Conn.Read(p)
}

func TestCancelReachesTheHandler(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan error, 1)
	s := newServer(func(s *Server) {
		s.Operations[opBlock] = Operation{Handler: func(ctx context.Context, _ *Request) error {
			derived, cancel := context.WithCancel(ctx)
			defer cancel()
			close(began)
			<-derived.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}}
	})
	c := connect(t, piped(s))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("changed my mind")
	go func() {
		<-began
		cancel(cause)
	}()
	within(t, "a cancelled request", func() {
		_, err := c.Do(ctx, Call{Op: opBlock})
		expect(t, err, cause)
		expect(t, <-ended, context.Canceled)
	})
	if _, err := c.Do(t.Context(), Call{Op: opEcho}); err != nil {
		t.Fatalf("and then: %v", err)
	}
}

func TestDeadlinesCross(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left := make(chan time.Duration, 1)
		s := newServer(func(s *Server) {
			s.Operations[opBlock] = Operation{Handler: func(ctx context.Context, _ *Request) error {
				d, _ := ctx.Deadline()
				left <- time.Until(d)
				<-ctx.Done()
				return ctx.Err()
			}}
		})
		c := connect(t, piped(s))
		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
		defer cancel()
		ctx2, cancel2 := context.WithTimeout(t.Context(), time.Hour)
		defer cancel2()
		began := time.Now()
		_, err := c.Do(ctx, Call{Op: opBlock})
		if d := time.Since(began); d != 70*time.Second {
			t.Errorf("it took %v, expected 70 s", d)
		}
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("got %v", err)
		}
		if d := <-left; d != 70*time.Second {
			t.Errorf("the handler had %v, expected 70 s", d)
		}
		// A time of its own counts besides.
		began = time.Now()
		_, err = c.Do(ctx2, Call{Op: opBlock, Timeout: 2 * time.Second})
		if d := time.Since(began); d != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("got %v after %v, expected the end after 2 s", err, d)
		}
		if d := <-left; d != 2*time.Second {
			t.Errorf("the handler had %v, expected 2 s", d)
		}
		// Without one there is the limit.
		began = time.Now()
		if _, err = c.Do(t.Context(), Call{Op: opBlock}); err == nil || time.Since(began) != 30*time.Second {
			t.Errorf("got %v after %v, expected an error after 30 s", err, time.Since(began))
		}
		c.Close()
		synctest.Wait()
	})
}

// Requests wait for others when there are as many in flight as there may be.
func TestWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var mu sync.Mutex
		inside, most := 0, 0
		s := newServer(func(s *Server) {
			s.Limits = Limits{Requests: 3, Payload: 1 << 20, Bytes: 4 << 20}
			s.Operations[opBlock] = Operation{Handler: func(context.Context, *Request) error {
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				<-release
				mu.Lock()
				inside--
				mu.Unlock()
				return nil
			}}
		})
		c := connect(t, piped(s, func(o *Options) { o.Conns = 1 }))
		run := func(n, size, expected int) {
			most = 0
			var work sync.WaitGroup
			for range n {
				work.Go(func() {
					if _, err := c.Do(t.Context(), Call{Op: opBlock, Payload: make([]byte, size)}); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.Do(ctx, Call{Op: opEcho, Payload: make([]byte, 1<<20)}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("one more got %v, expected to wait", err)
			}
			for range n {
				release <- struct{}{}
			}
			work.Wait()
			if most != expected {
				t.Errorf("%d of %d bytes were at work, expected %d", most, size, expected)
			}
		}
		run(10, 10, 3)   // requests
		run(3, 1<<20, 3) // bytes
		c.Close()
		synctest.Wait()
	})
}
