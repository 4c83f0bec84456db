package wire

import (
	"context"
	"fmt"
	"time"
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

// A Pending is a request that was begun. Wait must be called once.
type Pending struct {
	l              *lane
	k              *call
	bound          time.Duration
	headInto, into []byte
}

// Begin is the first half of [Client.Do], for who has something else to do until the
// reply is there: it sends the request, and waits only if too much is in flight
// already. The memory of r is in use until Wait returns.
func (c *Client) Begin(ctx context.Context, r *Call) (p Pending, err error) {
	l := c.pick()
	if err := l.check(r, len(r.Into)); err != nil {
		return p, err
	}
	bound, left, err := c.timeFor(ctx, r.Timeout)
	if err != nil {
		return p, err
	}
	k, err := l.acquire(ctx, charge(r, len(r.Into)), bound)
	if err != nil {
		return p, err
	}
	k.into = r.Into
	k.timer.Reset(bound)
	l.submit(k, header{kind: kindRequest, op: uint16(r.Op), millis: millis(left), room: uint32(len(r.Into))}, r)
	return Pending{l, k, bound, r.HeadInto, r.Into}, nil
}

// Wait is the second half.
func (p *Pending) Wait(ctx context.Context) (Reply, error) {
	l, k := p.l, p.k
	var err error
	select {
	case <-k.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-k.timer.C:
		err = fmt.Errorf("node %s has not answered for %v: %w", l.c.peer.Node, p.bound, context.DeadlineExceeded)
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
