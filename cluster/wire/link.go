package wire

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Link has a session with a node whenever one is needed and possible. A new one is
// begun by the next request after the last one is over; nothing that was in flight is
// sent again.
type Link struct {
	o      Options
	ctx    context.Context // of dialling
	cancel context.CancelFunc
	client atomic.Pointer[Client] // changed under mu

	mu      sync.Mutex
	closed  bool
	dialing chan struct{} // closed when dialling has ended; nil if nobody dials
	err     error         // of the last time
	until   time.Time     // until when it holds
	pause   time.Duration // how long it holds
}

const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// NewLink returns a Link, which does nothing yet. o is checked when it is needed.
func NewLink(o Options) *Link {
	ctx, cancel := context.WithCancel(context.Background())
	return &Link{o: o, ctx: ctx, cancel: cancel, pause: minPause}
}

// Client returns the session, which it begins if there is none. After a failure it
// fails at once for a while that becomes longer each time, up to 2 s, so that
// requests to a dead node do not have to wait for it one by one.
func (l *Link) Client(ctx context.Context) (*Client, error) {
	for {
		if c := l.Current(); c != nil {
			return c, nil
		}
		l.mu.Lock()
		switch {
		case l.Current() != nil: // since a moment ago
			l.mu.Unlock()
			continue
		case l.closed:
			l.mu.Unlock()
			return nil, ErrClosed
		case l.dialing == nil && l.err != nil && time.Now().Before(l.until):
			err := l.err
			l.mu.Unlock()
			return nil, err
		case l.dialing == nil:
			l.err = nil
			l.dialing = make(chan struct{})
			go l.dial(l.dialing)
		}
		dialing := l.dialing
		l.mu.Unlock()
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Again lets the next request try to begin a session although that has just failed: the
// node may be another one now.
func (l *Link) Again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.pause = nil, minPause
}

// Current returns the session if there is one that is of use, else nil.
func (l *Link) Current() *Client {
	if c := l.client.Load(); c != nil && c.usable.Load() {
		return c
	}
	return nil
}

func (l *Link) dial(done chan struct{}) {
	c, err := Connect(l.ctx, l.o)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(done)
	l.dialing = nil
	switch {
	case err != nil:
		l.err, l.until = err, time.Now().Add(l.pause)
		l.pause = min(2*l.pause, maxPause)
	case l.closed:
		c.fail(ErrClosed)
	default:
		l.client.Store(c)
		l.pause = minPause
	}
}

// Do carries out a request, see [Client.Do].
func (l *Link) Do(ctx context.Context, r Call) (Reply, error) {
	c, err := l.Client(ctx)
	if err != nil {
		return Reply{}, err
	}
	return c.Do(ctx, r)
}

// Close ends the session, and there will be no other one.
func (l *Link) Close() error {
	l.cancel()
	l.mu.Lock()
	l.closed = true
	c, dialing := l.client.Load(), l.dialing
	l.mu.Unlock()
	if dialing != nil {
		<-dialing
		c = l.client.Load()
	}
	if c != nil {
		return c.Close()
	}
	return nil
}
