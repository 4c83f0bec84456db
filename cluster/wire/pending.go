package wire

import (
	"context"
	"time"

	"github.com/strata-storage/strata/block"
)

// Do carries out a request. Nothing that is part of it is used any more when Do
// returns. It returns when the reply is there, when the session ends, when ctx ends,
// or when the time of r is over. In the latter cases the node is told that the reply
// is of no use, and may have carried out the request, or still be about to. An error of
// type [*RemoteError] is the answer of the node, and means that the request is over
// there.
func (c *Client) Do(ctx context.Context, r Call) (Reply, error) {
	p, err := c.Begin(ctx, &r)
	if err != nil {
		return Reply{}, err
	}
	return p.Wait(ctx)
}

// A Pending is a request that was begun. Wait or Then must be called once.
type Pending struct {
	l              *lane
	k              *call
	id             uint64
	bound          time.Duration
	headInto, into []byte
}

// Begin is the first half of [Client.Do], for who has something else to do until the
// reply is there: it sends the request, and waits only if too much is in flight
// already. The memory of r is in use until Wait returns.
func (c *Client) Begin(ctx context.Context, r *Call) (p Pending, err error) {
	l := c.pick()
	bound, left, err := c.admit(ctx, l, r)
	if err != nil {
		return p, err
	}
	k, err := l.acquire(ctx, charge(r, len(r.Into)), bound)
	if err != nil {
		return p, err
	}
	return c.submit(l, k, r, bound, left, nil), nil
}

// BeginNow is Begin for who must not wait: it returns false, and has done nothing, if it
// would have to, or if r cannot be sent. What it sends it sends at the end of b. Then is the
// second half.
func (c *Client) BeginNow(ctx context.Context, r *Call, b *block.Burst) (p Pending, ok bool) {
	l := c.pick()
	bound, left, err := c.admit(ctx, l, r)
	if err != nil {
		return p, false
	}
	k := l.acquireNow(charge(r, len(r.Into)))
	if k == nil {
		return p, false
	}
	return c.submit(l, k, r, bound, left, b), true
}

// admit checks r, and says how long it may take.
func (c *Client) admit(ctx context.Context, l *lane, r *Call) (bound, left time.Duration, err error) {
	if err := l.check(r, len(r.Into)); err != nil {
		return 0, 0, err
	}
	return c.timeFor(ctx, r.Timeout)
}

func (c *Client) submit(l *lane, k *call, r *Call, bound, left time.Duration, b *block.Burst) Pending {
	k.into = r.Into
	l.submit(k, header{kind: kindRequest, op: uint16(r.Op), millis: millis(left), room: uint32(len(r.Into))}, r, b)
	return Pending{l, k, k.id, bound, r.HeadInto, r.Into}
}

// Answered is told the reply to a request, or why there is none, by a goroutine that must
// not wait.
type Answered interface {
	Answered(r Reply, err error, b *block.Burst)
}

// Then has a told instead of Wait: once, perhaps before it returns, and when the time of
// the request is over a little later than Wait would return. The memory of the request is
// in use until then.
func (p *Pending) Then(a Answered, b *block.Burst) {
	l, k := p.l, p.k
	l.mu.Lock()
	k.then, k.headInto, k.bound, k.waited = a, p.headInto, p.bound, 0
	finished := k.finished
	l.mu.Unlock()
	if finished {
		<-k.done
		k.tell(b)
	}
}

// Cancel lets who is to be told know that nobody waits any more because of err, unless
// there is a reply. It does not wait for that. It may be called at any time after Then.
func (p *Pending) Cancel(err error) { go p.l.quit(p.k, p.id, err) }

// Wait is the second half.
func (p *Pending) Wait(ctx context.Context) (Reply, error) {
	l, k := p.l, p.k
	k.timer.Reset(p.bound)
	var err error
	select {
	case <-k.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-k.timer.C:
		err = l.lateness(p.bound)
	}
	k.timer.Stop()
	if err != nil && l.abandon(k) {
		return Reply{}, err
	}
	reply, err := Reply{append(p.headInto, k.head...), p.into[:k.n]}, k.err
	l.recycle(k)
	if err != nil {
		return Reply{}, err
	}
	return reply, nil
}
