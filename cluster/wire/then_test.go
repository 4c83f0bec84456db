package wire

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// A toldReply is one that somebody was told.
type toldReply struct {
	reply Reply
	err   error
}

type told chan toldReply

func (t told) Answered(r Reply, err error, _ *block.Burst) { t <- toldReply{r, err} }

// then carries out a request by BeginNow and Then, if that does not have to wait.
func then(c *Client, r Call) (Reply, error) {
	var b block.Burst
	p, ok := c.BeginNow(context.Background(), &r, &b)
	if !ok {
		return c.Do(context.Background(), r)
	}
	t := make(told, 1)
	p.Then(t, &b)
	b.End()
	got := <-t
	return got.reply, got.err
}

// Whoever does not wait for replies is told them, also in a crowd with others who wait, with
// TLS and without.
func TestThen(t *testing.T) {
	t.Parallel()
	_, secure := overTLSLoopback(t)
	for _, o := range []Options{secure, over(t, newServer())} {
		c := connect(t, o)
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				op := opInline
				if i%2 == 0 {
					op = opEcho
				}
				want := bytes.Repeat([]byte{byte(i)}, 1+i*300)
				call := Call{Op: op, Head: want[:1], Payload: want, Into: make([]byte, len(want))}
				do := then
				if i%3 == 0 {
					do = func(c *Client, r Call) (Reply, error) { return c.Do(context.Background(), r) }
				}
				r, err := do(c, call)
				if err != nil || !bytes.Equal(r.Payload, want) || !bytes.Equal(r.Head, want[:1]) {
					t.Errorf("%d bytes: %d bytes came, %v", len(want), len(r.Payload), err)
				}
			})
		}
		all.Wait()
	}
}

// What is begun with a burst leaves at its end, many at a time.
func TestThenTogether(t *testing.T) {
	t.Parallel()
	_, o := overTLSLoopback(t)
	c := connect(t, o)
	for range 20 {
		var b block.Burst
		all := make(told, 100)
		n := 0
		for i := range cap(all) {
			p, ok := c.BeginNow(t.Context(), &Call{Op: opInline, Payload: make([]byte, 4096), Into: make([]byte, 4096)}, &b)
			if !ok {
				t.Logf("%d at a time", i)
				break
			}
			p.Then(all, &b)
			n++
		}
		b.End()
		for range n {
			if got := <-all; got.err != nil || len(got.reply.Payload) != 4096 {
				t.Fatalf("%d bytes, %v", len(got.reply.Payload), got.err)
			}
		}
	}
}

// One that is cancelled, or takes too long, or whose session ends, is told so once.
func TestThenWithoutReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, piped(newServer()))
		begin := func(timeout time.Duration) (Pending, told) {
			var b block.Burst
			p, ok := c.BeginNow(t.Context(), &Call{Op: opBlock, Payload: make([]byte, 100), Timeout: timeout}, &b)
			if !ok {
				t.Fatal("it would have to wait")
			}
			end := make(told, 2)
			p.Then(end, &b)
			b.End()
			return p, end
		}
		why := errors.New("enough")
		p, end := begin(time.Hour)
		p.Cancel(why)
		p.Cancel(why)
		expect(t, (<-end).err, why)
		before := time.Now()
		_, late := begin(20 * time.Second)
		if err := (<-late).err; err == nil || time.Since(before) < 20*time.Second || time.Since(before) > 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		_, lost := begin(time.Hour)
		synctest.Wait()
		c.Close()
		expect(t, (<-lost).err, ErrLost)
		synctest.Wait()
		if len(end)+len(late)+len(lost) > 0 {
			t.Error("somebody was told twice")
		}
	})
}
