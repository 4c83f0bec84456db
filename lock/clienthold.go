package lock

import (
	"context"
	"time"
)

// A clientHold is a hold of a party of a Server. Its lease is over, and it is
// lost, at the deadline by the clock of this side, which comes before that of
// the server.
type clientHold struct {
	hold
	client   *client
	deadline time.Duration
	expire   func() bool // stops the timer of the deadline
	raise    *raise      // what Raise waits for; nil if nobody does
}

// A raise is a Raise that has no answer yet.
type raise struct {
	above uint64
	done  chan error // has room for one
}

// check ends the hold if its time is over.
func (h *clientHold) check() {
	if h.err == nil && h.client.now() >= h.deadline {
		h.client.lose("its lease has expired")
	}
}

// over cleans up after the hold has got an error.
func (h *clientHold) over() {
	h.client.hold = nil
	if h.expire != nil {
		h.expire()
	}
	h.raised(h.err)
}

// raised answers Raise.
func (h *clientHold) raised(err error) {
	if h.raise != nil {
		h.raise.done <- err
		h.raise = nil
	}
}

func (h *clientHold) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.check()
	return h.err
}

func (h *clientHold) Unlock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.check(); h.err != nil {
		return h.err
	}
	c := h.client
	h.err = errUnlocked
	h.over()
	c.last = h.generation
	if c.session != nil {
		c.session.send(message{kind: msgRelease, generation: h.generation})
	} else {
		c.owed = h.deadline + MaxLease
		c.poke()
	}
	c.turn.give()
	return nil
}

func (h *clientHold) Raise(ctx context.Context, above uint64) error {
	if err := h.client.raising.take(ctx); err != nil {
		return err
	}
	defer h.client.raising.give()
	h.mu.Lock()
	h.check()
	generation, err := h.above(above)
	if generation == 0 {
		h.mu.Unlock()
		return err
	}
	r := &raise{above, make(chan error, 1)}
	h.raise = r
	if s := h.client.session; s != nil {
		s.send(message{kind: msgRaise, generation: h.generation, above: above})
	}
	h.mu.Unlock()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raise = nil
	return context.Cause(ctx)
}
