package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// retryLimit is for how long a request is tried again after the first attempt, when the
// volume has to be attached anew in between.
const retryLimit = 30 * time.Second

// A device is a volume that somebody has opened.
type device struct {
	hold *hold
	info block.Info
	gate block.Gate
	// session is of whom the changes are, see Session.
	session Session
	// If end is not nil, changes are carried out by route alone, and when that is over end
	// is called.
	end   func()
	route *active
}

// ErrMoved: the volume is attached anew since the connection was opened that a change came
// by.
var ErrMoved = errors.New("the volume was attached anew, this connection is over")

var _ block.Device = (*device)(nil)

// Open opens a volume for reading and writing, which attaches it to this node if it is
// not. All that have it open at the same time share what they write.
func (n *Node) Open(ctx context.Context, name string) (block.Device, error) {
	return n.OpenFor(ctx, name, Session{}, nil)
}

// OpenFor is Open for a client at the other end of a connection, which end cuts at once,
// and which may say which session it is of.
// A client that has lost its connection sends what was not answered again, by another
// node perhaps, and later changes after that. So what has come by a connection must not
// be carried out when all that is done: it is by the attachment that the connection was
// opened with, which others are kept out by, or else end is called, and it fails with
// ErrMoved, which the client does not hear. One that is still there sends it again.
func (n *Node) OpenFor(ctx context.Context, name string, s Session, end func()) (block.Device, error) {
	v, head, err := n.head(ctx, name)
	if err != nil {
		return nil, err
	}
	d, err := n.lazy(v, head)
	if err != nil {
		return nil, err
	}
	d.session, d.end = s, end
	a, err := d.hold.use(ctx)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.hold.grow(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	named := d.info.Contexts
	d.info = a.Info()
	d.info.Contexts = named
	d.route = a
	return d, nil
}

// Probe is OpenSnapshot, or Open if snapshot is empty, for somebody who wants to know what
// there is: it is the first request that attaches the volume, and what this node knows of a
// name is good enough.
func (n *Node) Probe(ctx context.Context, volume, snapshot string) (block.Device, error) {
	v := n.state.View()
	head, ok := v.Head(volume)
	if ok && snapshot != "" {
		_, ok = v.Snapshot(head.Line(), snapshot)
	}
	if !ok {
		var err error
		if v, head, err = n.head(ctx, volume); err != nil {
			return nil, err
		}
	}
	if snapshot != "" {
		return n.openSnapshot(ctx, v, head, snapshot)
	}
	return n.lazy(v, head)
}

// lazy opens a volume whose first request attaches it.
func (n *Node) lazy(v *record.View, head record.Head) (*device, error) {
	h, err := n.hold(head.Line())
	if err != nil {
		return nil, fmt.Errorf("opening the volume %s: %w", head.Called, err)
	}
	d := &device{hold: h, info: replica.InfoOf(head.Name.Record.Size)}
	d.info.Contexts = contexts(v, head, head.Name.Record.Head)
	return d, nil
}

// Info is that of block.Device.
func (d *device) Info() block.Info { return d.info }

// A turn is the attempts of a request.
type turn struct {
	volume *active
	// change: it is not harmless when it is late.
	change bool
	n      int
	until  time.Duration // on the clock of the node, once the first attempt has failed
	err    error
}

// next gets the volume for the next attempt, and reports whether there is one: after
// an error that is about the attachment. Otherwise err is what the request came to.
func (t *turn) next(ctx context.Context, d *device) bool {
	if t.n > 0 && (t.err == nil || t.volume.Err() == nil || !t.again(ctx, d.hold.n)) {
		return false
	}
	t.n++
	v, err := d.hold.use(ctx)
	if err != nil {
		t.err = err
		return false
	}
	if t.change && d.end != nil && v != d.route {
		d.end()
		t.err = ErrMoved
		return false
	}
	t.volume = v
	return true
}

// again reports whether there is time for one more attempt.
func (t *turn) again(ctx context.Context, n *Node) bool {
	now := n.store.Clock().Now()
	if t.n == 1 {
		t.until = now + retryLimit
		return true
	}
	return now < t.until && n.pause(ctx, findPause)
}

// ReadAt is that of block.Device.
func (d *device) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if flags&block.NoWait != 0 {
		a := d.hold.active.Load()
		if a == nil || a.own == nil || a.Err() != nil {
			return block.ErrWouldBlock
		}
		return a.own.ReadAt(ctx, p, off, flags)
	}
	var t turn
	for t.next(ctx, d) {
		t.err = t.volume.ReadAt(ctx, p, off, flags)
	}
	return t.err
}

// change carries out a change. Where the volume is attached it passes the fence; to
// another node it goes with the session, for the fence there.
func (d *device) change(ctx context.Context, do func(context.Context, *active) error) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.attempt(ctx, &turn{change: true}, do)
}

// attempt makes the attempts of a change that are left.
func (d *device) attempt(ctx context.Context, t *turn, do func(context.Context, *active) error) error {
	for t.next(ctx, d) {
		if t.volume.own == nil {
			t.err = do(d.session.in(ctx), t.volume)
		} else if t.err = d.hold.fence.enter(ctx, d.session); t.err == nil {
			t.err = do(ctx, t.volume)
			d.hold.fence.leave(d.session)
		}
	}
	return t.err
}

// WriteAt is that of block.Device.
func (d *device) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	return d.change(ctx, func(ctx context.Context, v *active) error { return v.WriteAt(ctx, p, off, flags) })
}

// Zero is that of block.Device.
func (d *device) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.change(ctx, func(ctx context.Context, v *active) error { return v.Zero(ctx, off, n, flags) })
}

// Trim is that of block.Device.
func (d *device) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.change(ctx, func(ctx context.Context, v *active) error { return v.Trim(ctx, off, n, flags) })
}

// Flush is that of block.Device.
func (d *device) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	var t turn
	for t.next(ctx, d) {
		t.err = t.volume.Flush(ctx)
	}
	return t.err
}

// Extents is that of block.Device.
func (d *device) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := d.gate.Enter(); err != nil {
		return block.FailExtents(err)
	}
	d.gate.Leave()
	return extentsOf(d, d.hold.n.state.View(), d.hold.line, &d.info, ctx, mc, off, n)
}

// Map tells what is allocated and what has changed. Another attempt goes on where the
// one before has come to.
func (d *device) Map(ctx context.Context, since uint64, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		if err := d.gate.Enter(); err != nil {
			yield(block.Extent{}, err)
			return
		}
		defer d.gate.Leave()
		var t turn
		for t.next(ctx, d) {
			t.err = nil
			for e, err := range t.volume.Map(ctx, since, off, n) {
				if err != nil {
					t.err = err
					break
				}
				if !yield(e, nil) {
					return
				}
				off, n = e.End(), n-e.Len
			}
		}
		if t.err != nil {
			yield(block.Extent{}, t.err)
		}
	}
}

// Close is that of block.Device. The volume stays attached for a while.
func (d *device) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	d.hold.leaveOwn()
	return nil
}
