package lock_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/lock/locktest"
)

// A jumpClock is the clock of the system, but for jumps.
type jumpClock struct {
	mu     sync.Mutex
	begin  time.Time
	jumped time.Duration
	timers map[*jumpTimer]struct{}
}

type jumpTimer struct {
	due  time.Duration
	real *time.Timer
}

func newJumpClock() *jumpClock {
	return &jumpClock{begin: time.Now(), timers: map[*jumpTimer]struct{}{}}
}

func (c *jumpClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.begin) + c.jumped
}

func (c *jumpClock) AfterFunc(d time.Duration, f func()) func() bool {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &jumpTimer{due: now + min(d, time.Hour)}
	end := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, ok := c.timers[t]
		delete(c.timers, t)
		return ok
	}
	t.real = time.AfterFunc(d, func() {
		if end() {
			f()
		}
	})
	c.timers[t] = struct{}{}
	return func() bool {
		t.real.Stop()
		return end()
	}
}

func (c *jumpClock) jump(d time.Duration) {
	now := c.Now() + d
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jumped += d
	for t := range c.timers {
		t.real.Reset(max(0, t.due-now))
	}
}

// A wire is the way of one party to the server, which can be cut.
type wire struct {
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func (w *wire) connect(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, errors.New("the wire is cut")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = false
}

// A lab is a server with its clients, in which wires are cut.
type lab struct {
	*testing.T
	clock   *jumpClock
	lease   time.Duration
	address string
	state   string
	mu      sync.Mutex
	wires   map[lock.Lock]*wire
}

func newLab(t *testing.T) *lab {
	l := &lab{
		T: t, clock: newJumpClock(), lease: 10 * time.Second, address: "127.0.0.1:0",
		state: filepath.Join(t.TempDir(), "state"), wires: map[lock.Lock]*wire{},
	}
	l.serve()
	return l
}

// serve starts a server, which ends with the test or earlier.
func (l *lab) serve() *lock.Server {
	l.Helper()
	s, err := lock.NewServer(lock.ServerOptions{State: l.state, Lease: l.lease, Clock: l.clock})
	if err != nil {
		l.Fatal(err)
	}
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.Fatal(err)
	}
	l.address = listener.Addr().String()
	ended := make(chan error)
	go func() { ended <- s.Serve(listener) }()
	l.Cleanup(func() {
		s.Close()
		if err := <-ended; !errors.Is(err, lock.ErrClosed) {
			l.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (l *lab) join() lock.Lock {
	w := new(wire)
	c, err := lock.Dial(l.Context(), l.address, "a", lock.DialOptions{Connect: w.connect, Clock: l.clock})
	if err != nil {
		l.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wires[c] = w
	return c
}

// all does something to all wires.
func (l *lab) all(do func(*wire)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wires {
		do(w)
	}
}

func (l *lab) wire(c lock.Lock) *wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wires[c]
}

func TestTCP(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Transport {
		l := newLab(t)
		return locktest.Transport{
			Join: l.join,
			Lose: func() {
				l.all((*wire).cut)
				l.clock.jump(l.lease)
				l.all((*wire).mend)
			},
			Die: func(c lock.Lock) {
				l.wire(c).cut()
				l.clock.jump(l.lease)
			},
		}
	})
}
