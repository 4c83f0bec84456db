package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// inBubble runs a test of a client of f that reconnects, in time of its own.
func inBubble(t *testing.T, f *fakeServer, test func(t *testing.T, d *Dialer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f.t = t
		if f.size == 0 {
			f.size, f.flags = 65536, fakeFlags
		}
		d := f.dialer()
		d.Reconnect = Reconnect{}
		test(t, d)
	})
}

// serveAll acknowledges everything and answers reads with zeros.
func (c *fakeConn) serveAll(each func(fakeRequest)) {
	for {
		r, ok := c.request()
		if !ok {
			return
		}
		if each != nil {
			each(r)
		}
		if r.cmd == cmdRead {
			c.Write(simpleBytes(r.cookie, 0, make([]byte, r.n)))
			continue
		}
		c.ack(r)
	}
}

// firstThenAll is a server that leaves its first connection to first, and
// serves all later ones well.
func firstThenAll(first func(c *fakeConn)) *fakeServer {
	f := &fakeServer{form: SimpleReplies}
	f.serve = func(c *fakeConn, n int) {
		if n == 0 {
			first(c)
			return
		}
		c.serveAll(nil)
	}
	return f
}

func TestReconnectReplaysInOrder(t *testing.T) {
	t.Parallel()
	var first, second []string
	note := func(r fakeRequest) string { return fmt.Sprint(r.cmd, r.off, r.n, len(r.payload)) }
	const n = 20
	f := &fakeServer{form: SimpleReplies}
	f.serve = func(c *fakeConn, i int) {
		if i > 0 {
			c.serveAll(func(r fakeRequest) { second = append(second, note(r)) })
			return
		}
		for len(first) < n {
			r, ok := c.request()
			if !ok {
				return
			}
			first = append(first, note(r))
		}
	}
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				var err error
				switch i % 4 {
				case 0:
					err = c.WriteAt(t.Context(), make([]byte, 100+i), int64(i), block.FUA)
				case 1:
					err = c.ReadAt(t.Context(), make([]byte, 100+i), int64(i), 0)
				case 2:
					err = c.Zero(t.Context(), int64(i), 100, 0)
				default:
					err = c.Flush(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(first, second) || len(first) != n {
			t.Errorf("sent %v, then %v", first, second)
		}
	})
}

func TestReconnectBacksOffAndGivesUp(t *testing.T) {
	t.Parallel()
	f := firstThenAll(func(c *fakeConn) { c.request() })
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		connect := d.Connect
		down := false
		var tries []time.Time
		d.Connect = func(ctx context.Context) (net.Conn, error) {
			tries = append(tries, time.Now())
			if down {
				return nil, errors.New("nobody is there")
			}
			return connect(ctx)
		}
		c := dialTest(t, d, "nbd:///vm")
		down = true
		start := time.Now()
		err := c.Flush(t.Context())
		want := "nbd://localhost/vm: gave up reconnecting after 1m0s: nobody is there"
		if err == nil || err.Error() != want || !errors.Is(err, block.ErrIO) {
			t.Errorf("got %v, want %s", err, want)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("gave up after %v", took)
		}
		if tries[1] != start {
			t.Errorf("the first attempt came after %v", tries[1].Sub(start))
		}
		for i := 2; i < len(tries)-1; i++ {
			most := min(50*time.Millisecond<<(i-2), 5*time.Second)
			if pause := tries[i].Sub(tries[i-1]); pause < most/2 || pause > most {
				t.Errorf("pause %d is %v, expected %v to %v", i, pause, most/2, most)
			}
		}
		// Now every request makes one attempt.
		n, now := len(tries), time.Now()
		if err := c.Flush(t.Context()); err == nil || time.Since(now) != 0 || len(tries) != n+1 {
			t.Errorf("got %v after %v and %d attempts", err, time.Since(now), len(tries)-n)
		}
		down = false
		if err := c.Flush(t.Context()); err != nil || time.Since(now) != 0 {
			t.Errorf("got %v after %v with the server back", err, time.Since(now))
		}
	})
}

// A request that makes the server drop its connections does so a few times
// only.
func TestReconnectWithoutProgress(t *testing.T) {
	t.Parallel()
	f := &fakeServer{form: SimpleReplies}
	f.serve = func(c *fakeConn, _ int) { c.request() }
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///")
		err := c.WriteAt(t.Context(), make([]byte, 100), 0, 0)
		if err == nil || !strings.Contains(err.Error(), "gave up WRITE after the connection was lost 10 times") {
			t.Errorf("got %v", err)
		}
	})
}

func TestReconnectToAnotherDisk(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(f *fakeServer){
		`nbd: export "vm" changed size from 65536 to 4096`: func(f *fakeServer) { f.size = 4096 },
		`nbd: export "vm" changed flags from [`:            func(f *fakeServer) { f.flags |= flagReadOnly },
		`to [SEND_FLUSH]`:                                  func(f *fakeServer) { f.flags = flagHasFlags | flagSendFlush },
	} {
		f := &fakeServer{form: SimpleReplies}
		f.serve = func(c *fakeConn, _ int) {
			c.request()
			change(f)
		}
		inBubble(t, f, func(t *testing.T, d *Dialer) {
			c := dialTest(t, d, "nbd:///vm")
			for range 2 {
				if err := c.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, block.ErrIO) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

func TestReconnectOff(t *testing.T) {
	t.Parallel()
	f := &fakeServer{form: SimpleReplies, size: 65536, flags: fakeFlags}
	f.serve = func(c *fakeConn, _ int) { c.request() }
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		d.Reconnect.Off = true
		c := dialTest(t, d, "nbd:///vm")
		for range 2 {
			if err := c.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "the connection is lost: the server closed") {
				t.Errorf("got %v", err)
			}
		}
		if n := f.conns.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// A server that shuts down is left, and its requests go to the next.
func TestReconnectOnShutdown(t *testing.T) {
	t.Parallel()
	f := firstThenAll(func(c *fakeConn) {
		r, _ := c.request()
		c.Write(simpleBytes(r.cookie, wireESHUTDOWN, nil))
		c.request()
	})
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What a server that breaks the protocol was working on fails; nothing else
// does.
func TestReconnectAfterViolation(t *testing.T) {
	t.Parallel()
	f := firstThenAll(func(c *fakeConn) {
		c.request()
		c.Write(data(16))
	})
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		if err := c.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "broke the protocol") {
			t.Errorf("got %v", err)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A connection that is lost while nothing is in flight comes back by itself.
func TestReconnectWhenIdle(t *testing.T) {
	t.Parallel()
	f := &fakeServer{form: SimpleReplies}
	f.serve = func(c *fakeConn, n int) {
		if n > 2 {
			c.serveAll(nil)
		}
	}
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := f.conns.Load(); n != 4 {
			t.Errorf("%d connections", n)
		}
		now := time.Now()
		if err := c.Flush(t.Context()); err != nil || time.Since(now) != 0 {
			t.Errorf("%v after %v", err, time.Since(now))
		}
	})
}

func TestCancelWaitingForReply(t *testing.T) {
	t.Parallel()
	f := &fakeServer{form: SimpleReplies}
	f.serve = func(c *fakeConn, _ int) {
		r, _ := c.request()
		c.Write(simpleBytes(r.cookie, 0, data(5000))) // half of it
		time.Sleep(time.Second)
		c.Write(data(5000))
		r, _ = c.request()
		time.Sleep(time.Second)
		c.Write(simpleBytes(r.cookie, 0, data(100)))
		c.serveAll(nil)
	}
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		why := errors.New("enough")
		for _, n := range []int{10000, 100} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, why)
			p := make([]byte, n)
			now := time.Now()
			if err := c.ReadAt(ctx, p, 0, 0); !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(now); took != 100*time.Millisecond {
				t.Errorf("returned after %v", took)
			}
			after := bytes.Clone(p)
			time.Sleep(2 * time.Second)
			if !bytes.Equal(p, after) {
				t.Error("the buffer changed after the return")
			}
			cancel()
		}
		if err := c.Flush(t.Context()); err != nil || f.conns.Load() != 1 {
			t.Error("cancelling cost the connection")
		}
	})
}

// Nothing overtakes a cancelled write to the same place.
func TestCancelWriteLeavesGhost(t *testing.T) {
	t.Parallel()
	f := &fakeServer{form: SimpleReplies}
	f.serve = func(c *fakeConn, _ int) {
		w, _ := c.request()
		other, _ := c.request()
		c.Write(simpleBytes(other.cookie, 0, make([]byte, other.n)))
		time.Sleep(10 * time.Second)
		c.ack(w)
		c.serveAll(nil)
	}
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		now := time.Now()
		if err := c.WriteAt(ctx, make([]byte, 100), 1000, 0); !errors.Is(err, context.DeadlineExceeded) || time.Since(now) != time.Second {
			t.Errorf("%v after %v", err, time.Since(now))
		}
		p := make([]byte, 100)
		now = time.Now()
		if err := c.ReadAt(t.Context(), p, 1100, 0); err != nil || time.Since(now) != 0 {
			t.Errorf("beside: %v after %v", err, time.Since(now))
		}
		if err := c.ReadAt(t.Context(), p, 1099, 0); err != nil || time.Since(now) != 10*time.Second {
			t.Errorf("overlapping: %v after %v", err, time.Since(now))
		}
	})
}

// A write that cannot be sent completely keeps its buffer for a second, and
// then the connection goes.
func TestCancelWhileSending(t *testing.T) {
	t.Parallel()
	f := firstThenAll(func(c *fakeConn) {
		c.take(requestSize + 50)
		time.Sleep(time.Hour)
	})
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		c := dialTest(t, d, "nbd:///vm")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		now := time.Now()
		if err := c.WriteAt(ctx, make([]byte, 1000), 0, 0); !errors.Is(err, context.DeadlineExceeded) || time.Since(now) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(now))
		}
		if err := c.Flush(t.Context()); err != nil || f.conns.Load() != 2 {
			t.Errorf("%v with %d connections", err, f.conns.Load())
		}
		time.Sleep(2 * time.Hour) // the server's goroutine
	})
}

// Requests beyond the limit wait for their turn, and can be cancelled there.
func TestClientLimit(t *testing.T) {
	t.Parallel()
	var answer chan struct{}
	f := firstThenAll(func(c *fakeConn) {
		var held []fakeRequest
		for len(held) < maxCalls {
			r, _ := c.request()
			held = append(held, r)
		}
		<-answer
		for _, r := range held {
			c.ack(r)
		}
		c.serveAll(nil)
	})
	inBubble(t, f, func(t *testing.T, d *Dialer) {
		answer = make(chan struct{})
		c := dialTest(t, d, "nbd:///")
		var wg sync.WaitGroup
		for range maxCalls {
			wg.Go(func() {
				if err := c.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // for all of them to have been sent
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		now := time.Now()
		if err := c.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(now) != time.Second {
			t.Errorf("%v after %v", err, time.Since(now))
		}
		close(answer)
		wg.Wait()
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
