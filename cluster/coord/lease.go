package coord

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Parts of the time to live of a lease.
const (
	partMargin  = 8  // that much too early it is in doubt
	partRenew   = 6  // so often it is renewed
	partRetry   = 16 // so soon again if that failed
	partAttempt = 8  // so long one attempt may take
)

// A Lease is a lease that is kept alive. It is sure, or in doubt because it has
// not been renewed for too long, or lost for good. It may go from one to the other
// and back; only lost is the end. Its methods may be called from any goroutine at
// any time.
type Lease struct {
	store Store
	clock Clock
	id    LeaseID
	ttl   time.Duration
	stop  context.CancelFunc
	ended chan struct{} // the keeper has
	lost  chan struct{}

	// sure is until, or the least number when it is lost: for Err, which is
	// called with every request.
	sure atomic.Int64

	mu        sync.Mutex
	until     time.Duration // it is sure before that, by the clock
	why       error         // it is lost
	doubt     chan struct{} // closed when it was seen in doubt
	doubted   bool          // that is so
	armed     bool          // there is a timer that sees it,
	disarm    func() bool   // which this stops
	settled   chan struct{} // closed at the next renewal, or when it is lost
	campaigns map[string]bool
}

// NewLease grants a lease, see Store.Grant, and keeps it alive in the background
// until it is lost. That is what Revoke does, too, and the next renewal after the
// end of the store. ctx is about the granting only.
func NewLease(ctx context.Context, s Store, ttl time.Duration) (*Lease, error) {
	l := &Lease{
		store:   s,
		clock:   s.Clock(),
		ended:   make(chan struct{}),
		lost:    make(chan struct{}),
		doubt:   make(chan struct{}),
		settled: make(chan struct{}),
	}
	sent := l.clock.Now()
	var err error
	if l.id, l.ttl, err = s.Grant(ctx, ttl); err != nil {
		return nil, err
	}
	l.until = sent + surely(l.ttl)
	l.sure.Store(int64(l.until))
	l.arm(l.clock.Now())
	keeping, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go l.keep(keeping, sent)
	return l, nil
}

// surely is how long a lease is sure after a renewal of it was sent.
func surely(ttl time.Duration) time.Duration { return ttl - ttl/partMargin }

// ID is the name of the lease, for PutLeased.
func (l *Lease) ID() LeaseID { return l.id }

// TTL is the time to live that was granted.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Err returns nil while the lease cannot have expired, and then an error that
// wraps ErrInDoubt or ErrLeaseLost. It looks at the clock itself, and costs no more
// than that. Ask before each act that the lease gives the right to.
func (l *Lease) Err() error {
	now := l.clock.Now()
	if now < time.Duration(l.sure.Load()) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err(now)
}

func (l *Lease) err(now time.Duration) error {
	if l.why != nil {
		return l.why
	}
	if now < l.until {
		return nil
	}
	l.seeDoubt()
	sure := surely(l.ttl)
	return fmt.Errorf("%w: it was renewed %v ago, and is sure for %v", ErrInDoubt, now-l.until+sure, sure)
}

// seeDoubt lets everybody know that the lease is in doubt. With l.mu held.
func (l *Lease) seeDoubt() {
	if !l.doubted {
		l.doubted = true
		close(l.doubt)
	}
}

// arm sets the timer that sees the doubt when nobody asks. With l.mu held, or
// while nobody else knows the lease.
func (l *Lease) arm(now time.Duration) {
	if l.armed {
		return
	}
	l.armed = true
	l.disarm = l.clock.AfterFunc(l.until-now, func() {
		now := l.clock.Now()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.armed = false
		if l.why == nil && !l.doubted && l.err(now) == nil {
			l.arm(now) // it was renewed meanwhile, or the timer was early
		}
	})
}

// Left returns for how long the lease is sure, 0 if it is not.
func (l *Lease) Left() time.Duration {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err(now) != nil {
		return 0
	}
	return l.until - now
}

// Doubt returns a channel that is closed when the lease gets into doubt or is
// lost. When it is sure again, the next call returns one that is open again. Err
// may know before: timers can be late.
func (l *Lease) Doubt() <-chan struct{} {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.err(now)
	return l.doubt
}

// Lost returns a channel that is closed when the lease is lost for good.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Wait waits until the lease is sure. It returns an error that wraps ErrLeaseLost
// when it is lost, or context.Cause(ctx).
func (l *Lease) Wait(ctx context.Context) error {
	for {
		now := l.clock.Now()
		l.mu.Lock()
		err, settled := l.err(now), l.settled
		l.mu.Unlock()
		if !errors.Is(err, ErrInDoubt) {
			return err
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Revoke ends the lease. It is lost before its entries can be gone. With an error
// they may stay until the time to live has passed; Revoke may be called again.
func (l *Lease) Revoke(ctx context.Context) error {
	l.lose(errors.New("it was revoked"))
	l.stop()
	<-l.ended
	return l.store.Revoke(ctx, l.id)
}

func (l *Lease) lose(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.sure.Store(math.MinInt64)
		l.why = fmt.Errorf("%w: %w", ErrLeaseLost, why)
		l.disarm()
		l.seeDoubt()
		close(l.lost)
		close(l.settled)
	}
}

// renewed notes a renewal that was sent at that time.
func (l *Lease) renewed(sent, ttl time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := sent + surely(ttl)
	if l.why != nil || until <= l.until {
		return
	}
	l.until = until
	l.sure.Store(int64(until))
	if l.doubted {
		l.doubted, l.doubt = false, make(chan struct{})
		l.arm(l.clock.Now())
	}
	close(l.settled)
	l.settled = make(chan struct{})
}

// keep renews the lease until it is lost.
func (l *Lease) keep(ctx context.Context, sent time.Duration) {
	defer close(l.ended)
	defer l.stop()
	wait := l.ttl / partRenew
	for {
		l.sleep(ctx, sent+wait)
		if ctx.Err() != nil {
			return
		}
		sent = l.clock.Now()
		ttl, err := l.renew(ctx)
		switch {
		case err == nil:
			l.renewed(sent, ttl)
			wait = ttl / partRenew
		case errors.Is(err, ErrNoLease), errors.Is(err, ErrClosed):
			l.lose(err)
			return
		default:
			sent = l.clock.Now()
			wait = l.ttl / partRetry
		}
	}
}

// sleep waits until then.
func (l *Lease) sleep(ctx context.Context, then time.Duration) {
	Sleep(ctx, l.clock, then-l.clock.Now())
}

// renew is one attempt.
func (l *Lease) renew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.clock.AfterFunc(l.ttl/partAttempt, cancel)()
	return l.store.Renew(ctx, l.id)
}

// campaign notes that the lease runs for a key, and tells whether it did not
// already. stand is the end of that.
func (l *Lease) campaign(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.campaigns[key] {
		return false
	}
	if l.campaigns == nil {
		l.campaigns = map[string]bool{}
	}
	l.campaigns[key] = true
	return true
}

func (l *Lease) stand(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.campaigns, key)
}
