package remote

import (
	"context"
	"sync"

	"github.com/strata-storage/strata/block"
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
	ender   block.Ender
}

var starteds = sync.Pool{New: func() any { return new(started) }}

var _ replica.Starter = (*Peer)(nil)

// StartWrite is that of replica.Starter: of short writes, when there is a session.
func (p *Peer) StartWrite(ctx context.Context, r *replica.Request, data []byte, b *block.Burst) replica.Pending {
	c := p.link.Current()
	if c == nil || len(data) > maxStarted {
		return nil
	}
	s, err := head(r)
	if err != nil {
		return nil // Write says why
	}
	pending, ok := c.BeginNow(ctx, &wire.Call{Op: opWrite, Head: s.head, HeadInto: s.back[:0], Payload: data, Timeout: p.Timeout}, b)
	if !ok {
		scratches.Put(s)
		return nil
	}
	w := starteds.Get().(*started)
	w.group, w.s, w.pending = r.Group, s, pending
	return w
}

// Wait is that of replica.Pending.
func (w *started) Wait(ctx context.Context) error {
	err := w.result(w.pending.Wait(ctx))
	w.free()
	return err
}

// Then is that of replica.Pending.
func (w *started) Then(e block.Ender, b *block.Burst) {
	w.ender = e
	w.pending.Then(w, b)
}

// Cancel is that of replica.Pending.
func (w *started) Cancel(err error) { w.pending.Cancel(err) }

// Answered is that of wire.Answered.
func (w *started) Answered(reply wire.Reply, err error, b *block.Burst) {
	w.ender.Ended(w.result(reply, err), b)
	w.free() // until then it may be cancelled
}

func (w *started) result(reply wire.Reply, err error) error {
	if err != nil {
		return failure(w.group, err)
	}
	if err := w.s.take(reply, nil); err != nil {
		return err
	}
	return checkLength(reply.Payload, 0)
}

func (w *started) free() {
	scratches.Put(w.s)
	*w = started{}
	starteds.Put(w)
}
