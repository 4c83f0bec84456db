package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// Cut loses all messages of a direction from now on, also those under way.
// Requests that are not lost are served, though their replies may be. A call that
// has lost one fails when its patience ends, a watch waits for the network to be
// whole. Cut(false, false) mends the network.
func (c *Client) Cut(requests, replies bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut != [2]bool{} && !requests && !replies {
		close(c.mends)
		c.mends = make(chan struct{})
	}
	c.cut = [2]bool{requests, replies}
}

// Delay sets how long each message takes, in both directions; nil is no time. A
// request that is under way arrives, also when its call is over. Calls of f do not
// overlap.
func (c *Client) Delay(f func() time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = f
}

// usable says why a call or watch must end.
func (c *Client) usable(ctx context.Context) error {
	select {
	case <-c.closed:
		return coord.ErrClosed
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// whole waits until the network is not cut.
func (c *Client) whole(ctx context.Context) error {
	for {
		if err := c.usable(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		cut, mends := c.cut != [2]bool{}, c.mends
		c.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-mends:
		case <-ctx.Done():
		case <-c.closed:
		}
	}
}

// send lets a message pass: it calls arrive when it has arrived, if it does. No
// goroutine waits meanwhile.
func (c *Client) send(direction int, arrive func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delay := time.Duration(0)
	if c.delay != nil {
		delay = c.delay()
	}
	c.server.o.Clock.AfterFunc(delay, func() {
		c.mu.Lock()
		lost := c.cut[direction]
		c.mu.Unlock()
		if !lost {
			arrive()
		}
	})
}

// delayed lets a change of a watch pass, and tells whether it arrived.
func (c *Client) delayed(ctx context.Context) bool {
	c.mu.Lock()
	perfect := c.delay == nil
	c.mu.Unlock()
	if perfect {
		return true
	}
	arrived, mends := make(chan struct{}), c.mending()
	c.send(reply, func() { close(arrived) })
	select {
	case <-arrived:
		return true
	case <-mends: // it was lost, or may have been
	case <-ctx.Done():
	case <-c.closed:
	}
	return false
}

// mending returns the channel that is closed when the network is whole again.
func (c *Client) mending() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mends
}

// call sends a request, has it served, and returns the reply.
func call[T any](ctx context.Context, c *Client, serve func() (T, error)) (T, error) {
	var none T
	if err := c.usable(ctx); err != nil {
		return none, err
	}
	c.mu.Lock()
	perfect := c.cut == [2]bool{} && c.delay == nil
	c.mu.Unlock()
	if perfect {
		return serve()
	}
	type answer struct {
		t   T
		err error
	}
	answered, gone := make(chan answer, 1), make(chan struct{})
	// Nobody calls a request back that has been sent.
	c.send(request, func() {
		t, err := serve()
		c.send(reply, func() { answered <- answer{t, err} })
	})
	defer c.clock.AfterFunc(c.patience, func() { close(gone) })()
	select {
	case a := <-answered:
		return a.t, a.err
	case <-gone:
		return none, fmt.Errorf("%w: no answer for %v", coord.ErrUnavailable, c.patience)
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-c.closed:
		return none, coord.ErrClosed
	}
}
