package memory

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/internal/clock"
)

// ClientOptions are the options of a client. The zero value is sensible.
type ClientOptions struct {
	// Clock is that of the client's side. Nil is that of package time.
	Clock coord.Clock
	// Patience is after which time a call gives up. 0 is 5 s.
	Patience time.Duration
}

// A Client is the access of one client, and the network between it and the
// server. Its methods may be called from any goroutine at any time.
type Client struct {
	server   *Server
	clock    coord.Clock
	patience time.Duration
	closed   chan struct{}

	mu    sync.Mutex
	cut   [2]bool       // by direction
	mends chan struct{} // closed when the network is not cut any more
	delay func() time.Duration
}

// Directions of the network.
const (
	request = iota
	reply
)

var _ coord.Store = (*Client)(nil)

// Client returns the access of one more client.
func (s *Server) Client(o ClientOptions) *Client {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	return &Client{
		server:   s,
		clock:    o.Clock,
		patience: cmp.Or(o.Patience, 5*time.Second),
		closed:   make(chan struct{}),
		mends:    make(chan struct{}),
	}
}

// Get is that of coord.Store.
func (c *Client) Get(ctx context.Context, key string) (coord.Entry, coord.Revision, error) {
	if err := coord.CheckKey(key); err != nil {
		return coord.Entry{}, 0, err
	}
	r, err := call(ctx, c, func() (read, error) { return c.server.get(key), nil })
	if err != nil {
		return coord.Entry{}, 0, err
	}
	return r.entries[0], r.revision, nil
}

// List is that of coord.Store.
func (c *Client) List(ctx context.Context, prefix string) ([]coord.Entry, coord.Revision, error) {
	if err := coord.CheckPrefix(prefix); err != nil {
		return nil, 0, err
	}
	r, err := call(ctx, c, func() (read, error) { return c.server.list(prefix), nil })
	return r.entries, r.revision, err
}

// Txn is that of coord.Store.
func (c *Client) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	if err := t.Check(); err != nil {
		return coord.Result{}, err
	}
	t.If, t.Then = slices.Clone(t.If), slices.Clone(t.Then)
	for i := range t.Then {
		t.Then[i].Value = slices.Clone(t.Then[i].Value)
	}
	return call(ctx, c, func() (coord.Result, error) { return c.server.txn(t) })
}

// Grant is that of coord.Store.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (coord.LeaseID, time.Duration, error) {
	if err := coord.CheckTTL(ttl); err != nil {
		return 0, 0, err
	}
	g, err := call(ctx, c, func() (granted, error) { return c.server.grant(ttl), nil })
	return g.id, g.ttl, err
}

// Renew is that of coord.Store.
func (c *Client) Renew(ctx context.Context, id coord.LeaseID) (time.Duration, error) {
	return call(ctx, c, func() (time.Duration, error) { return c.server.renew(id) })
}

// Revoke is that of coord.Store.
func (c *Client) Revoke(ctx context.Context, id coord.LeaseID) error {
	_, err := call(ctx, c, func() (bool, error) { return c.server.Expire(id), nil })
	return err
}

// Clock is that of coord.Store.
func (c *Client) Clock() coord.Clock { return c.clock }

// Close is that of coord.Store. What is under way in the network arrives.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return coord.ErrClosed
	default:
		close(c.closed)
		return nil
	}
}

// Watch is that of coord.Store.
func (c *Client) Watch(ctx context.Context, prefix string, after coord.Revision) iter.Seq2[coord.Change, error] {
	return func(yield func(coord.Change, error) bool) {
		if err := coord.CheckWatch(prefix, after); err != nil {
			yield(coord.Change{}, err)
			return
		}
		after := after // the loop may be begun again
		for {
			change, err := c.next(ctx, prefix, &after)
			if !yield(change, err) || err != nil {
				return
			}
		}
	}
}

// next waits for the next change of a watch.
func (c *Client) next(ctx context.Context, prefix string, after *coord.Revision) (coord.Change, error) {
	for {
		if err := c.whole(ctx); err != nil {
			return coord.Change{}, err
		}
		change, looked, more, err := c.server.next(prefix, *after)
		if err != nil {
			return coord.Change{}, err
		}
		if more != nil {
			*after = looked
			select {
			case <-more:
			case <-ctx.Done():
			case <-c.closed:
			}
			continue
		}
		if c.delayed(ctx) {
			*after = looked
			return change, nil
		}
	}
}
