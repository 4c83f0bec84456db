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
