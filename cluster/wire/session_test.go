package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	foreign := func(o *Options) { o.Self.Cluster = "c2" }
	wrong := func(o *Options) { o.Node = "x" }
	none := func(*Options) {}
	for _, test := range []struct {
		name   string
		server func(*Server)
		client func(*Options)
		is     error
		text   string
	}{
		{"foreign cluster", func(*Server) {}, foreign, ErrForeignCluster, `"c2", expected "c1"`},
		{"wrong node", func(*Server) {}, wrong, ErrWrongNode, `this is "b", and "x" was meant`},
		{"not admitted", func(s *Server) {
			s.Verify = func(*tls.ConnectionState, Identity) error { return errors.New("expelled") }
		}, none, ErrUnverified, "expelled"},
		{"server not verified", func(*Server) {}, func(o *Options) {
			o.Verify = func(_ *tls.ConnectionState, peer Identity) error { return errors.New("not " + peer.Node) }
		}, ErrUnverified, "not b"},
		{"too many sessions of a node", func(s *Server) { s.Limits.NodeSessions = 1 }, none, ErrTooMany, `1 of node "a"`},
		{"too many sessions", func(s *Server) { s.Limits.Sessions = 1 }, none, ErrTooMany, ""},
		{"too many connections", func(s *Server) { s.Limits.Conns = 2 }, func(o *Options) { o.Conns = 3 }, ErrTooMany, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(test.server)
			if s.Limits.Sessions == 1 || s.Limits.NodeSessions == 1 {
				connect(t, piped(s))
			}
			c, err := Connect(t.Context(), piped(s, test.client))
			if err == nil {
				c.Close()
				t.Fatal("it was admitted")
			}
			expect(t, err, test.is)
			if !strings.Contains(err.Error(), test.text) {
				t.Errorf("the error is %q, expected %q in it", err, test.text)
			}
			within(t, "the server", func() { s.Close() })
		})
	}
}

// Certificates decide who is who.
func TestCertificates(t *testing.T) {
	t.Parallel()
	l, other := newLab(t), newLab(t)
	s := newServer(func(s *Server) { s.TLS, s.Verify = l.config(partner.Node), byName })
	o := over(t, s)
	try := func(self string, config *tls.Config) error {
		o := o
		o.Self.Node, o.TLS, o.Verify = self, config, byName
		c, err := Connect(t.Context(), o)
		if err == nil {
			// With TLS 1.3 a client learns later that its certificate was refused.
			_, err = c.Do(t.Context(), Call{Op: opEcho})
			c.Close()
		}
		return err
	}
	if err := try("a", l.config("a")); err != nil {
		t.Errorf("a as a: %v", err)
	}
	expect(t, try("z", l.config("a")), ErrUnverified)
	if err := try("a", other.config("a")); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
	bare := l.config("a")
	bare.Certificates = nil
	if err := try("a", bare); err == nil {
		t.Error("no certificate was accepted")
	}
	plain := o
	plain.Limits.Hello = time.Second
	if _, err := Connect(t.Context(), plain); err == nil {
		t.Error("a connection without TLS was accepted")
	}
	// A server with the certificate of another node.
	s = newServer(func(s *Server) { s.TLS, s.Verify = l.config("q"), byName })
	o = over(t, s)
	expect(t, try("a", l.config("a")), ErrUnverified)
}

// A session ends as a whole, on both sides, and its handlers with it.
func TestSessionEndsWithOneConnection(t *testing.T) {
	t.Parallel()
	var conns []net.Conn
	s := newServer()
	o := piped(s)
	dial := o.Dial
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		nc, err := dial(ctx)
		conns = append(conns, nc)
		return nc, err
	}
	o.Conns = 3
	c := connect(t, o)
	result := make(chan error, 8)
	for range cap(result) {
		go func() {
			_, err := c.Do(t.Context(), Call{Op: opBlock, Payload: make([]byte, 1000)})
			result <- err
		}()
	}
	session := s.Sessions()[0]
	if session.Peer() != self || session.ID() != c.Session() || c.Peer() != partner {
		t.Errorf("the server sees %v of %v, the client %v of %v", session.ID(), session.Peer(), c.Session(), c.Peer())
	}
	conns[1].Close()
	within(t, "what was in flight", func() {
		for range cap(result) {
			expect(t, <-result, ErrLost)
		}
		<-c.Ended()
		<-session.Ended()
		<-session.gone
	})
	_, err := c.Do(t.Context(), Call{Op: opEcho})
	expect(t, err, ErrLost)
	expect(t, err, syscall.EIO)
	if n := len(s.Sessions()); n != 0 {
		t.Errorf("%d sessions remain", n)
	}
}

// When End has returned nothing of a session is carried out any more.
func TestEndWaitsForHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var atWork atomic.Int32
		s := newServer(func(s *Server) {
			s.Operations[opBlock] = Operation{Handler: func(ctx context.Context, _ *Request) error {
				atWork.Add(1)
				defer atWork.Add(-1)
				<-ctx.Done()
				time.Sleep(3 * time.Second) // it takes a while to stop
				return nil
			}}
		})
		c, other := connect(t, piped(s)), connect(t, piped(s, func(o *Options) { o.Self.Node = "o" }))
		for range 5 {
			go c.Do(t.Context(), Call{Op: opBlock})
		}
		synctest.Wait()
		match := func(session *Session) bool { return session.Peer().Node == self.Node }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.End(ctx, match); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, expected that it does not wait for ever", err)
		}
		if _, err := c.Do(t.Context(), Call{Op: opEcho}); !errors.Is(err, ErrLost) {
			t.Errorf("got %v from an ended session", err)
		}
		if err := s.End(t.Context(), match); err != nil || atWork.Load() != 0 {
			t.Errorf("got %v, and %d handlers are at work", err, atWork.Load())
		}
		if _, err := other.Do(t.Context(), Call{Op: opEcho}); err != nil {
			t.Errorf("another session: %v", err)
		}
		c.Close()
		other.Close()
		synctest.Wait()
	})
}

// A shutdown answers what is under way, refuses the rest, and loses nothing.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		s := newServer()
		o := over(t, s)
		if i%2 == 1 {
			s, o = overTLSLoopback(t)
		}
		c := connect(t, o)
		var work sync.WaitGroup
		var good atomic.Int64
		busy := make(chan struct{})
		for range 16 {
			work.Go(func() {
				p := bytes.Repeat([]byte{7}, 3000)
				for {
					_, err := c.Do(t.Context(), Call{Op: opEcho, Payload: p, Into: make([]byte, len(p))})
					if err != nil {
						if !errors.Is(err, ErrGoingAway) || errors.Is(err, ErrLost) {
							t.Errorf("got %v, expected that the node goes away", err)
						}
						return
					}
					if good.Add(1) == 200 {
						close(busy)
					}
				}
			})
		}
		within(t, "the beginning", func() { <-busy })
		within(t, "a shutdown", func() {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			work.Wait()
			<-c.Ended()
		})
		if _, err := Connect(t.Context(), o); err == nil {
			t.Error("a new session began")
		}
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		c := connect(t, piped(s))
		lost := make(chan error, 1)
		go func() {
			_, err := c.Do(t.Context(), Call{Op: opBlock})
			lost <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-lost; !errors.Is(err, ErrLost) {
			t.Errorf("what was under way got %v", err)
		}
		s.Close()
		c.Close()
		synctest.Wait()
	})
}

func TestClientShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newServer(func(s *Server) {
			s.Operations[opBlock] = Operation{Handler: func(context.Context, *Request) error { <-release; return nil }}
		})
		c := connect(t, piped(s))
		done := make(chan error, 2)
		go func() {
			_, err := c.Do(t.Context(), Call{Op: opBlock})
			done <- err
		}()
		synctest.Wait()
		go func() { done <- c.Shutdown(t.Context()) }()
		synctest.Wait()
		if _, err := c.Do(t.Context(), Call{Op: opEcho}); !errors.Is(err, ErrClosed) {
			t.Errorf("a new request got %v", err)
		}
		close(release)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if n := len(s.Sessions()); n != 0 {
			t.Errorf("%d sessions remain", n)
		}
	})
}

// silentConn is a connection whose partner can vanish without a word.
type silentConn struct {
	net.Conn
	mute atomic.Bool
}

func (c *silentConn) Write(p []byte) (int, error) {
	if c.mute.Load() {
		return len(p), nil // into the void
	}
	return c.Conn.Write(p)
}

func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"client", "server", "nobody"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			var all []*silentConn
			c := connect(t, Options{Self: self, Node: partner.Node, Dial: func(context.Context) (net.Conn, error) {
				a, b := net.Pipe()
				x, y := &silentConn{Conn: a}, &silentConn{Conn: b}
				switch who {
				case "client":
					all = append(all, x)
				case "server":
					all = append(all, y)
				}
				go s.ServeConn(y)
				return x, nil
			}})
			time.Sleep(time.Hour) // idle connections live
			if c.Err() != nil || len(s.Sessions()) != 1 {
				t.Fatalf("after an idle hour: %v", c.Err())
			}
			if who == "nobody" {
				c.Close()
				synctest.Wait()
				return
			}
			for _, nc := range all {
				nc.mute.Store(true)
			}
			began := time.Now()
			session := s.Sessions()[0]
			_, err := c.Do(t.Context(), Call{Op: opBlock})
			if !errors.Is(err, ErrLost) {
				t.Errorf("got %v", err)
			}
			// The server hears no answers to its pings: both give up at once, and
			// either may be the first.
			if who == "server" && !errors.Is(err, ErrSilent) && !errors.Is(err, errHungUp) {
				t.Errorf("got %v, expected that the node is silent, or has hung up", err)
			}
			<-session.gone
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("it took %v to notice that the %s is silent", d, who)
			}
			c.Close()
			synctest.Wait()
		})
	}
}

// A partner that takes nothing is cut off, and so is one that does not end a frame.
func TestSlowPartnersAreCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		h := dialRaw(t, s)
		began := time.Now()
		go func() { // pings are no excuse for a payload that does not come
			var f frame
			f.set(header{kind: kindRequest, op: uint16(opEcho), id: 1 << 16}, nil, make([]byte, 100_000))
			h.nc.Write(f.small)
			for range 100 {
				time.Sleep(time.Second)
				if _, err := h.nc.Write(make([]byte, 10)); err != nil {
					return
				}
			}
		}()
		h.drain()
		if d := time.Since(began); d < 9*time.Second || d > 15*time.Second {
			t.Errorf("a frame without an end lasted %v", d)
		}
		taker := dialRaw(t, s)
		began = time.Now()
		var f frame
		f.set(header{kind: kindRequest, op: uint16(opRead), id: 1 << 16, room: 1 << 20}, nil, nil)
		taker.nc.Write(f.small)
		var err error
		for err == nil {
			time.Sleep(time.Second / 2)
			f.set(header{kind: kindPing}, nil, nil)
			_, err = taker.nc.Write(f.small)
		}
		if d := time.Since(began); d < 9*time.Second || d > 15*time.Second {
			t.Errorf("a client that takes nothing lasted %v", d)
		}
		s.Close()
		time.Sleep(time.Minute)
	})
}

func TestConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := Options{Self: self, Node: "b", Dial: func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go func() { b.Read(make([]byte, 1000)) }() // and never answers
			return a, nil
		}}
		began := time.Now()
		if _, err := Connect(t.Context(), o); err == nil || time.Since(began) != 5*time.Second {
			t.Errorf("got %v after %v, expected an error after 5 s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := Connect(ctx, o); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, expected an error after 1 s", err, time.Since(began))
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	dial := func(context.Context) (net.Conn, error) { return nil, errors.New("dialled") }
	for _, o := range []Options{
		{Node: "b", Dial: dial}, {Self: self, Dial: dial}, {Self: self, Node: "b"},
		{Self: self, Node: "b", Dial: dial, TLS: &tls.Config{}},
		{Self: self, Node: "b", Dial: dial, Conns: -1},
		{Self: self, Node: "b", Dial: dial, Limits: Limits{Requests: 1 << 20}},
		{Self: self, Node: "b", Dial: dial, Limits: Limits{Bytes: 10}},
		{Self: self, Node: "b", Dial: dial, Limits: Limits{Silence: time.Millisecond}},
		{Self: self, Node: "b", Dial: dial, Errors: []ErrorCode{{5, errors.New("x")}}},
		{Self: self, Node: "b", Dial: dial, Errors: []ErrorCode{{300, ErrLost}, {300, ErrClosed}}},
	} {
		if _, err := Connect(t.Context(), o); err == nil || strings.Contains(err.Error(), "dialled") {
			t.Errorf("got %v for %+v", err, o)
		}
	}
	for _, s := range []*Server{
		{}, {Self: self, TLS: &tls.Config{}}, {Self: self, Limits: Limits{Head: 1}},
		{Self: self, Operations: map[Op]Operation{MaxOp + 1: {Handler: echo}}}, {Self: self, Operations: map[Op]Operation{1: {}}},
	} {
		if err := s.ServeConn(&net.TCPConn{}); err == nil {
			t.Errorf("no error for %+v", s.Self)
		}
	}
}

// The log has one line of a node that falls silent, however many connections it has, and
// none that matters of one that hangs up or gives up in the middle of a handshake.
func TestEndsAreToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var log strings.Builder
		s := newServer(func(s *Server) { s.Log = slog.New(slog.NewTextHandler(locked{&mu, &log}, nil)) })
		var all []*silentConn
		o := Options{Self: self, Node: partner.Node, Dial: func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			c := &silentConn{Conn: a}
			all = append(all, c)
			go s.ServeConn(b)
			return c, nil
		}}
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		c, err := Connect(t.Context(), o)
		must(err)
		c.Close()
		a, b := net.Pipe()
		go s.ServeConn(b)
		a.Close()
		synctest.Wait()
		c, err = Connect(t.Context(), o)
		must(err)
		for _, x := range all {
			x.mute.Store(true)
		}
		<-s.Sessions()[0].gone
		c.Close()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "node=a ") || !strings.Contains(text, "nothing received") {
			t.Errorf("the log has %q", text)
		}
	})
}

// locked is a Writer that several may use.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
