package job

import (
	"context"
	"sync/atomic"
	"time"
)

// Quiet is how long no request has come when a disk counts as idle.
const Quiet = 50 * time.Millisecond

// The least and the longest rest after a step while there are requests.
const (
	minRest = 500 * time.Microsecond
	maxRest = time.Second
)

// A Throttle says when the next step of background work on a disk may begin.
type Throttle struct {
	since time.Time
	// inside are the requests that are under way, last is when one has come or
	// gone, in nanoseconds since the beginning.
	inside, last atomic.Int64
	// turn is held by who does a step while there are requests; next is guarded by
	// it, and is when the next one may begin.
	turn chan struct{}
	next time.Time
}

// NewThrottle returns one for a disk.
func NewThrottle() *Throttle {
	t := &Throttle{since: time.Now(), turn: make(chan struct{}, 1)}
	t.last.Store(int64(-Quiet))
	return t
}

// Enter says that a request of a client has come, and Leave that it is done.
func (t *Throttle) Enter() {
	t.inside.Add(1)
	t.last.Store(int64(time.Since(t.since)))
}

// Leave is called once after each Enter.
func (t *Throttle) Leave() {
	t.last.Store(int64(time.Since(t.since)))
	t.inside.Add(-1)
}

// Touch says that a request has come that is done at once.
func (t *Throttle) Touch() { t.last.Store(int64(time.Since(t.since))) }

// Busy reports whether there are requests, or were just now.
func (t *Throttle) Busy() bool {
	return t.inside.Load() > 0 || time.Since(t.since)-time.Duration(t.last.Load()) < Quiet
}

// do calls f when it may be called. Where there are requests, it rests for so many
// times as long as f has taken before the next step of anybody begins.
func (t *Throttle) do(ctx context.Context, rest int, f func() error) error {
	if !t.Busy() {
		return f()
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-t.turn }()
	if err := t.wait(ctx); err != nil {
		return err
	}
	began := time.Now()
	err := f()
	now := time.Now()
	t.next = now.Add(min(max(now.Sub(began)*time.Duration(rest), minRest), maxRest))
	return err
}

// wait waits until the next step may begin, or there are no requests any more.
func (t *Throttle) wait(ctx context.Context) error {
	for {
		left := time.Until(t.next)
		if left <= 0 || !t.Busy() {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(min(left, Quiet))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
