package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how a [Client] reaches a node.
type Options struct {
	// Self is this node.
	Self Identity
	// Node is the one that is meant. Any other one is refused.
	Node string
	// Dial connects to it.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS is how connections are protected; nil is for tests. It needs a
	// ServerName, or a way to verify certificates of its own.
	TLS *tls.Config
	// Verify decides whether the partner is the node that it says it is, by its
	// certificate. state is nil without TLS. It is required with TLS.
	Verify func(state *tls.ConnectionState, peer Identity) error
	// Conns is the number of connections: 2.
	Conns int
	// Limits bound what the node can make the client spend.
	Limits Limits
	// Errors are errors with codes of their own.
	Errors []ErrorCode
}

func (o *Options) check() error {
	if err := o.Self.validate(); err != nil {
		return err
	}
	if err := o.Limits.Validate(); err != nil {
		return err
	}
	switch {
	case o.Node == "" || len(o.Node) > maxName:
		return fmt.Errorf("wire: ID of the node has %d bytes, expected 1 to %d", len(o.Node), maxName)
	case o.Dial == nil:
		return errors.New("wire: Options have no Dial")
	case o.TLS != nil && o.Verify == nil:
		return errors.New("wire: Options have TLS, and no Verify to say whose certificate is whose")
	case o.Conns < 0 || o.Conns > math.MaxUint16:
		return fmt.Errorf("wire: %d connections, expected 1 to %d", o.Conns, math.MaxUint16)
	}
	return nil
}

// A Client is a session with one node. All methods may be called from any goroutine
// at any time.
type Client struct {
	o       Options
	limits  Limits
	codec   *codec
	session SessionID
	peer    Identity
	lanes   []*lane
	work    sync.WaitGroup
	ended   chan struct{}

	usable atomic.Bool // going is nil

	mu    sync.Mutex
	going error // what new requests get
	cause error // why it ended
	at    time.Time
}

// Connect begins a session. It ends when ctx ends, or after Limits.Hello; the
// session is not bound to ctx.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	set(&o.Conns, 2)
	c := &Client{o: o, limits: o.Limits.WithDefaults(), session: newSessionID(), ended: make(chan struct{})}
	var err error
	if c.codec, err = newCodec(o.Errors); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.limits.Hello)
	defer cancel()
	for i := range o.Conns {
		l, err := c.dial(ctx, i)
		if err == nil {
			err = c.add(l)
		}
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("wire: connecting to node %s: %w", o.Node, err)
		}
	}
	c.mu.Lock()
	c.usable.Store(c.going == nil)
	c.mu.Unlock()
	return c, nil
}

// add makes l one of the connections.
func (c *Client) add(l *lane) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.going != nil {
		l.raw.Close()
		return c.going
	}
	c.lanes = append(c.lanes, l)
	c.work.Add(1)
	l.start()
	go l.serve()
	return nil
}

// all returns the connections there are.
func (c *Client) all() []*lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lanes
}

// dial makes one connection.
func (c *Client) dial(ctx context.Context, i int) (*lane, error) {
	nc, err := c.o.Dial(ctx)
	if err != nil {
		return nil, err
	}
	// A deadline that is set later than it is taken back would stay.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		nc.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	t, limits, err := c.introduce(nc, i)
	if !stop() {
		<-interrupted
		if err == nil {
			err = os.ErrDeadlineExceeded
		}
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return newLane(c, t, limits), nil
}

func (c *Client) tlsClient(nc net.Conn) *tls.Conn { return tls.Client(nc, c.o.TLS) }

// Peer returns who the node is, its incarnation among it.
func (c *Client) Peer() Identity { return c.peer }

// Session returns the name of the session.
func (c *Client) Session() SessionID { return c.session }

// Ended returns a channel that is closed when the session is over.
func (c *Client) Ended() <-chan struct{} { return c.ended }

// Err returns why new requests fail, or nil.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.going
}

// over returns when the session has ended.
func (c *Client) over() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Close ends the session. Requests in flight fail with ErrLost. It returns when
// nothing of the session is at work on this side any more.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	c.work.Wait()
	return nil
}

// Shutdown lets requests in flight end, and no new ones begin. When ctx ends it does
// what Close does, and returns the reason.
func (c *Client) Shutdown(ctx context.Context) error {
	c.stop(ErrClosed)
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.Close()
		return context.Cause(ctx)
	}
	c.work.Wait()
	return nil
}

// stop lets nothing new begin, and ends the session when nothing is in flight.
func (c *Client) stop(cause error) {
	c.mu.Lock()
	c.usable.Store(false)
	if c.going == nil {
		c.going = cause
	}
	c.mu.Unlock()
	for _, l := range c.all() {
		l.stopAdmitting(cause)
	}
	c.endIfIdle()
}

func (c *Client) endIfIdle() {
	for _, l := range c.all() {
		if !l.idleForGood() {
			return
		}
	}
	c.fail(c.Err())
}

// fail ends the session.
func (c *Client) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause, c.at = cause, time.Now()
	c.usable.Store(false)
	if c.going == nil || cause != c.going {
		c.going = cause
		if cause != ErrClosed {
			c.going = fmt.Errorf("node %s: %w: %w", c.o.Node, ErrLost, cause)
		}
	}
	for _, l := range c.lanes {
		l.conn.fail(cause)
	}
	close(c.ended)
}

// A Call is a request on the side of who makes it.
type Call struct {
	Op Op
	// Head is the structured part. Payload comes after it.
	Head, Payload []byte
	// Into is room for the payload of the reply.
	Into []byte
	// HeadInto is what the head of the reply is appended to.
	HeadInto []byte
	// Timeout bounds how long it may take, besides the context. 0 means
	// Limits.Timeout if the context has no deadline, else no other bound.
	Timeout time.Duration
}

// A Reply is the result of a [Call].
type Reply struct {
	// Head is Call.HeadInto with the structured part of the reply.
	Head []byte
	// Payload is the beginning of Call.Into.
	Payload []byte
}

// unbounded is longer than any request may take.
const unbounded = math.MaxUint32 * time.Millisecond

// timeFor returns how long a request may take for its own part, and how much of that
// ctx leaves.
func (c *Client) timeFor(ctx context.Context, timeout time.Duration) (bound, left time.Duration, err error) {
	deadline, ok := ctx.Deadline()
	if bound = timeout; bound <= 0 {
		if bound = unbounded; !ok {
			bound = c.limits.Timeout
		}
	}
	if !ok {
		return bound, bound, nil
	}
	if left = time.Until(deadline); left <= 0 {
		return 0, 0, context.DeadlineExceeded
	}
	return bound, min(left, bound), nil
}

// millis is how d crosses the wire.
func millis(d time.Duration) uint32 {
	return uint32(min((d+time.Millisecond-1)/time.Millisecond, math.MaxUint32))
}

// enough is what a connection may have in flight before the next one is used. Small
// requests that share a connection share system calls and wakings as well; large ones
// would keep others waiting.
const enough = 512 << 10

// pick returns the first connection that does not have enough to do, or the one that
// has the least.
func (c *Client) pick() *lane {
	var best *lane
	least := int64(math.MaxInt64)
	for _, l := range c.lanes {
		n := l.load.Load()
		if n < enough {
			return l
		}
		if n < least {
			best, least = l, n
		}
	}
	return best
}

func charge(r *Call, room int) int64 { return int64(len(r.Head)) + int64(len(r.Payload)) + int64(room) }
