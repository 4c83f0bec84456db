package wire

import (
	"context"
	"errors"
	"fmt"
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
	began   time.Time     // when the last dialling did
	silent  int           // how often in a row sessions were lost, or did not begin
	err     error         // of the last time
	until   time.Time     // until when it holds
	pause   time.Duration // how long it holds
}

const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// recent is for how long the loss of a session says something of the next one.
const recent = 10 * time.Second

// NewLink returns a Link, which does nothing yet. o is checked when it is needed.
func NewLink(o Options) *Link {
	ctx, cancel := context.WithCancel(context.Background())
	return &Link{o: o, ctx: ctx, cancel: cancel, pause: minPause}
}

// Client returns the session, which it begins if there is none. After a failure it
// fails at once for a while that becomes longer each time, up to 2 s, so that
// requests to a dead node do not have to wait for it one by one. If a session was lost a
// moment ago, the next one has to begin within a quarter of Limits.Silence, and after
// that in a twentieth: requests do not wait longer, though there is all of Limits.Hello for
// it.
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
			l.begin()
		}
		dialing, began, patience := l.dialing, l.began, l.patience()
		l.mu.Unlock()
		if err := l.await(ctx, dialing, began, patience); err != nil {
			return nil, err
		}
	}
}

// begin begins to dial. mu is held.
func (l *Link) begin() {
	c := l.client.Load()
	if l.err == nil && c != nil && errors.Is(c.Err(), ErrLost) && time.Since(c.over()) < recent {
		l.silent = max(l.silent, 1)
	}
	l.err, l.began, l.dialing = nil, time.Now(), make(chan struct{})
	go l.dial(l.dialing)
}

// patience is how long requests wait for a session, 0 for as long as it takes. mu is held.
func (l *Link) patience() time.Duration {
	silence := l.o.Limits.WithDefaults().Silence
	switch l.silent {
	case 0:
		return 0
	case 1:
		return silence / 4
	}
	return silence / 20
}

// await waits for the end of dialling, which has begun at some time.
func (l *Link) await(ctx context.Context, dialing chan struct{}, began time.Time, patience time.Duration) error {
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(max(patience-time.Since(began), 0))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-dialing:
		return nil
	case <-late:
		return fmt.Errorf("node %s: %w: a new session has not begun within %v", l.o.Node, ErrSilent, patience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Again lets the next request try to begin a session although that has just failed: the
// node may be another one now.
func (l *Link) Again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.pause, l.silent = nil, minPause, 0
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
		if l.silent++; time.Since(l.began) < l.o.Limits.WithDefaults().Silence/4 {
			l.silent = 0 // it was refused
		}
	case l.closed:
		c.fail(ErrClosed)
	default:
		l.client.Store(c)
		l.pause, l.silent = minPause, 0
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
