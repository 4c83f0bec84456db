package wire

import (
	"context"
	"sync"
	"time"
)

// A requestContext is the context of a request. Unlike those of package context it
// costs nothing unless somebody wants to be told of its end.
type requestContext struct {
	mu       sync.Mutex
	deadline time.Time // zero if there is none
	err      error
	done     chan struct{} // nil until somebody asks for it
	timer    *time.Timer   // only if done is not nil
	after    map[*func()]struct{}
}

var _ context.Context = (*requestContext)(nil)

// Deadline implements [context.Context].
func (c *requestContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Value implements [context.Context].
func (c *requestContext) Value(any) any { return nil }

// Err implements [context.Context].
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.end(context.DeadlineExceeded)
	}
	return c.err
}

// Done implements [context.Context].
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch()
	return c.done
}

// watch makes the end of c something that happens. The caller holds mu.
func (c *requestContext) watch() {
	if c.done != nil {
		return
	}
	c.done = make(chan struct{})
	if c.err != nil {
		close(c.done)
	} else if !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.cancel(context.DeadlineExceeded) })
	}
}

// AfterFunc is how package context derives others without a goroutine for each.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[*func()]struct{}{}
	}
	c.after[&f] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waits := c.after[&f]
		delete(c.after, &f)
		return waits
	}
}

// cancel ends c for the reason that is given first.
func (c *requestContext) cancel(err error) {
	c.mu.Lock()
	c.end(err)
	c.mu.Unlock()
}

func (c *requestContext) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
}

// finish ends c with its request. It reports whether nobody can know of it any
// more, so that it may be used again.
func (c *requestContext) finish() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		c.end(context.Canceled)
		return false
	}
	c.err, c.deadline = nil, time.Time{}
	return true
}
