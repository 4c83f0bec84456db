package remote

import (
	"context"
	"sync"

	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// maxStarted is the longest write that is begun in the goroutine of the caller: to
// encrypt a longer one takes so long that several processors should do it.
const maxStarted = 64 << 10

// A started write is one that is under way.
type started struct {
	group   int
	s       *scratch
	pending wire.Pending
	err     error
}

var starteds = sync.Pool{New: func() any { return new(started) }}

var _ replica.Starter = (*Peer)(nil)

// StartWrite is that of replica.Starter: of short writes, when there is a session.
func (p *Peer) StartWrite(ctx context.Context, r *replica.Request, b []byte) replica.Pending {
	c := p.link.Current()
	if c == nil || len(b) > maxStarted {
		return nil
	}
	s, err := head(r)
	if err != nil {
		return nil // Write says why
	}
	w := starteds.Get().(*started)
	w.group, w.s = r.Group, s
	w.pending, w.err = c.Begin(ctx, &wire.Call{Op: opWrite, Head: s.head, HeadInto: s.back[:0], Payload: b, Timeout: p.Timeout})
	return w
}

// Wait is that of replica.Pending.
func (w *started) Wait(ctx context.Context) error {
	err := w.err
	if err == nil {
		var reply wire.Reply
		if reply, err = w.pending.Wait(ctx); err == nil {
			if err = w.s.take(reply, nil); err == nil {
				err = checkLength(reply.Payload, 0)
			}
		} else {
			err = failure(w.group, err)
		}
	} else {
		err = failure(w.group, err)
	}
	scratches.Put(w.s)
	*w = started{}
	starteds.Put(w)
	return err
}
