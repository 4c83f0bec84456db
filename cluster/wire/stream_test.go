package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func countHead(n, size uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, n), size)
}

// Who takes nothing gets no more than the window.
func TestStreamIsHeldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent int
		var end error
		s := newServer(func(s *Server) {
			s.Operations[opCount] = Operation{Handler: func(_ context.Context, r *Request) error {
				for end == nil {
					if end = r.Send([]byte("h"), make([]byte, 1000)); end == nil {
						sent++
					}
				}
				return end
			}}
		})
		c := connect(t, piped(s, func(o *Options) { o.Limits.Window = 100_000 }))
		taken := 0
		for _, err := range c.Stream(t.Context(), Call{Op: opCount}) {
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			taken++
			if ahead := (sent - taken + 1) * itemSize(1, 1000); ahead > 100_000 || ahead < 40_000 {
				t.Fatalf("%d bytes were sent ahead, expected 40000 to 100000", ahead)
			}
			if taken == 500 {
				break
			}
		}
		synctest.Wait()
		if !errors.Is(end, context.Canceled) {
			t.Errorf("the handler got %v, expected that its context is cancelled", end)
		}
		if _, err := c.Do(t.Context(), Call{Op: opEcho}); err != nil {
			t.Fatalf("and then: %v", err)
		}
		c.Close()
		synctest.Wait()
	})
}

// Items of the largest size pass, and larger ones are errors of the handler.
func TestLargestItems(t *testing.T) {
	t.Parallel()
	s := newServer(func(s *Server) {
		s.Operations[opCount] = Operation{Handler: func(_ context.Context, r *Request) error {
			for range 50 {
				if err := r.Send(nil, make([]byte, r.MaxItem())); err != nil {
					return err
				}
			}
			return r.Send(nil, make([]byte, r.MaxItem()+1))
		}}
	})
	c := connect(t, piped(s))
	items := 0
	within(t, "a stream", func() {
		for _, err := range c.Stream(t.Context(), Call{Op: opCount}) {
			if err != nil {
				expect(t, err, syscall.EINVAL)
				break
			}
			items++
		}
	})
	if items != 50 {
		t.Fatalf("got %d items, expected 50 and an error", items)
	}
}

func TestStreamThatStandsStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler := make(chan error, 2)
		s := newServer(func(s *Server) {
			s.Operations[opBlock] = Operation{Handler: func(ctx context.Context, r *Request) error {
				<-ctx.Done()
				handler <- ctx.Err()
				return ctx.Err()
			}}
			s.Operations[opCount] = Operation{Handler: func(ctx context.Context, r *Request) error {
				for {
					if err := r.Send(nil, make([]byte, 4000)); err != nil {
						handler <- err
						return err
					}
				}
			}}
		})
		c := connect(t, piped(s))
		began := time.Now()
		for _, err := range c.Stream(t.Context(), Call{Op: opBlock}) {
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 30*time.Second {
				t.Errorf("got %v after %v, expected the limit of 30 s", err, time.Since(began))
			}
		}
		if err := <-handler; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler got %v", err)
		}
		// And one whose client takes nothing.
		for _, err := range c.Stream(t.Context(), Call{Op: opCount}) {
			if err != nil {
				t.Fatal(err)
			}
			if err := <-handler; !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("the handler got %v, expected ETIMEDOUT", err)
			}
			break
		}
		c.Close()
		synctest.Wait()
	})
}

func TestStreamDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, piped(newServer()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slowly(t, c, ctx, Call{Op: opCount, Head: countHead(1<<30, 1000)})
		slowly(t, c, t.Context(), Call{Op: opCount, Head: countHead(1<<30, 1000), Timeout: time.Second})
		c.Close()
		synctest.Wait()
	})
}

// slowly takes an item each 10 ms of a stream that has a second.
func slowly(t *testing.T, c *Client, ctx context.Context, r Call) {
	n := 0
	for _, err := range c.Stream(ctx, r) {
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.ETIMEDOUT) {
				t.Error(err)
			}
			break
		}
		n++
		time.Sleep(10 * time.Millisecond)
	}
	if n > 101 {
		t.Errorf("%d items came in a second, one each 10 ms", n)
	}
}
