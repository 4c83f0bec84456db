package nbd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// An outage is the time from the loss of a connection to the first reply on a
// later one. A server that accepts connections only to drop them does not end
// it.
type outage struct {
	since    time.Time
	attempts int
	over     bool // the limit has passed, and requests do not wait any more
}

// run carries the lane from one connection to the next.
func (l *lane) run(w *wire) {
	var o outage
	for w != nil {
		if !l.attach(w) {
			w.fail(errGoodbye)
			return
		}
		stop := l.watch(w)
		err := l.receive(w)
		stop()
		w.fail(err)
		l.detach(w, w.cause)
		l.c.target.places.leave(w.place)
		if w.answered {
			o = outage{}
		}
		w = l.redial(&o, w.cause)
	}
}

// redial returns the next connection, or nil if there will be none.
func (l *lane) redial(o *outage, cause error) *wire {
	c := l.c
	if c.ctx.Err() != nil {
		return nil
	}
	if c.target.Reconnect.Off {
		l.drop(c.lost("the connection is lost", cause), true)
		return nil
	}
	if o.since.IsZero() {
		o.since = time.Now()
	}
	c.target.log.Warn("nbd: connection lost", "server", c.target.name, "err", cause)
	for l.await(o, cause) {
		w, err := l.reconnect(o)
		switch {
		case c.ctx.Err() != nil:
			if w != nil {
				w.nc.Close()
			}
			return nil
		case err != nil:
			cause = err
			continue
		}
		if err := c.sameDisk(w.export); err != nil {
			w.nc.Close()
			c.target.log.Error("nbd: not the same disk any more", "server", c.target.name, "err", err)
			c.giveUp(err)
			return nil
		}
		c.target.log.Info("nbd: connected again", "server", c.target.name, "after", time.Since(o.since))
		return w
	}
	return nil
}

// await returns true when it is time for the next attempt, false when there
// is to be none.
func (l *lane) await(o *outage, cause error) bool {
	t := l.c.target
	left := t.limit - time.Since(o.since)
	if o.over || left <= 0 {
		o.over = true
		select {
		case <-l.need: // of a request that fails now
		default:
		}
		l.drop(l.c.lost(fmt.Sprintf("gave up reconnecting after %v", time.Since(o.since).Round(time.Millisecond)), cause), false)
		select {
		case <-l.need:
		case <-l.c.ctx.Done():
		}
		return !l.ended()
	}
	if pause := min(t.pause(o.attempts), left); pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.c.ctx.Done():
		}
	}
	o.attempts++
	return !l.ended()
}

// ended reports whether the lane will carry nothing any more.
func (l *lane) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed != nil || l.c.ctx.Err() != nil
}

// pause is the time to wait before the next attempt after n that failed:
// between half and all of First doubled n-1 times, so that many clients of
// one server do not come back in step.
func (t *target) pause(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := t.first
	for i := 1; i < n && d < t.max; i++ {
		d *= 2
	}
	d = min(d, t.max)
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// reconnect attempts it once.
func (l *lane) reconnect(o *outage) (*wire, error) {
	if o.over {
		return l.c.target.connect(l.c.ctx)
	}
	t := l.c.target
	end := o.since.Add(t.limit)
	// An attempt that begins late still has a chance.
	if soonest := time.Now().Add(min(time.Second, t.handshake)); end.Before(soonest) {
		end = soonest
	}
	ctx, cancel := context.WithDeadlineCause(l.c.ctx, end, fmt.Errorf("no connection: %w", context.DeadlineExceeded))
	defer cancel()
	return t.connect(ctx)
}
