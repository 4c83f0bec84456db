package wire

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinkBeginsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var server atomic.Pointer[Server]
		var dials atomic.Int32
		server.Store(newServer())
		l := NewLink(Options{Self: self, Node: partner.Node, Conns: 1, Dial: func(context.Context) (net.Conn, error) {
			dials.Add(1)
			s := server.Load()
			if s == nil {
				return nil, errors.New("nobody listens")
			}
			a, b := net.Pipe()
			go s.ServeConn(b)
			return a, nil
		}})
		do := func() error {
			_, err := l.Do(t.Context(), Call{Op: opEcho})
			return err
		}
		var work sync.WaitGroup
		for range 10 {
			work.Go(func() {
				if err := do(); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if n := dials.Load(); n != 1 {
			t.Errorf("%d dials, expected 1", n)
		}
		// The node goes away. What fails does so at once, and nobody dials all the time.
		s := server.Swap(nil)
		s.Close()
		synctest.Wait()
		dials.Store(0)
		began := time.Now()
		for time.Since(began) < 20*time.Second {
			at := time.Now()
			if err := do(); err == nil || time.Since(at) > 0 {
				t.Fatalf("got %v after %v", err, time.Since(at))
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := dials.Load(); n < 10 || n > 20 {
			t.Errorf("%d dials in 20 s", n)
		}
		// It comes back, which somebody hears of.
		server.Store(newServer())
		l.Again()
		if err := do(); err != nil {
			t.Error(err)
		}
		server.Swap(nil).Close()
		synctest.Wait()
		for do() == nil || time.Since(began) < 25*time.Second {
			time.Sleep(10 * time.Millisecond)
		}
		// It comes back, and nobody tells.
		server.Store(newServer())
		for time.Sleep(2 * time.Second); do() != nil; {
			t.Fatal("it is not connected again")
		}
		// A node that says good-bye is left, and the next one found.
		next := newServer()
		old := server.Swap(next)
		if err := old.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := do(); err != nil {
			t.Error(err)
		}
		l.Close()
		if err := do(); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v from a closed link", err)
		}
		synctest.Wait()
	})
}

// Requests do not wait for a node that does not answer longer than they may.
func TestLinkIsBoundedByContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLink(Options{Self: self, Node: partner.Node, Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := l.Do(ctx, Call{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		l.Close()
		synctest.Wait()
	})
}

// Requests to a node that was silent a moment ago do not wait for long for a new session,
// and the less the longer it is silent.
func TestLinkToSilentNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []*silentConn
		frozen := false
		freeze := func(on bool) {
			mu.Lock()
			defer mu.Unlock()
			frozen = on
			for _, c := range all {
				c.mute.Store(on)
			}
		}
		s := newServer()
		l := NewLink(Options{Self: self, Node: partner.Node, Dial: func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			mu.Lock()
			defer mu.Unlock()
			c := &silentConn{Conn: b}
			c.mute.Store(frozen)
			all = append(all, c)
			go s.ServeConn(c)
			return a, nil
		}})
		do := func() (time.Duration, error) {
			began := time.Now()
			_, err := l.Do(t.Context(), Call{Op: opEcho})
			return time.Since(began), err
		}
		took := func(what string, least, most time.Duration) {
			t.Helper()
			d, err := do()
			// One connection may be closed by the server when the other one has ended.
			if !errors.Is(err, ErrSilent) && !errors.Is(err, ErrLost) || d < least || d > most {
				t.Errorf("%s: %v after %v, expected silence after %v to %v", what, err, d, least, most)
			}
		}
		if _, err := do(); err != nil {
			t.Fatal(err)
		}
		freeze(true)
		took("in the session", 1500*time.Millisecond, 2500*time.Millisecond)
		took("the first request after it", 500*time.Millisecond, 500*time.Millisecond)
		took("the next one", 0, 0)
		// From then on nobody waits longer than that, while new sessions are tried.
		for range 300 {
			if d, err := do(); err == nil || d > 100*time.Millisecond {
				t.Errorf("got %v after %v", err, d)
			}
			time.Sleep(100 * time.Millisecond)
		}
		freeze(false)
		time.Sleep(10 * time.Second)
		for range 2 { // the first one may still get the last error
			_, _ = do()
			time.Sleep(maxPause)
		}
		if d, err := do(); err != nil || d > 0 {
			t.Errorf("it is back: %v after %v", err, d)
		}
		// What is long ago says nothing.
		freeze(true)
		took("in the next session", 1500*time.Millisecond, 2500*time.Millisecond)
		time.Sleep(recent)
		freeze(false)
		if _, err := do(); err != nil {
			t.Error(err)
		}
		s.Close()
		l.Close()
		synctest.Wait()
	})
}
