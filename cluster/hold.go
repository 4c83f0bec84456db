package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// served is what carries out the requests of a volume: a *replica.Volume if this node
// has attached it, and a *far if another one has.
type served interface {
	block.Device
	mapper
	// Err returns nil, or why it is of no use any more.
	Err() error
}

// active is what a hold has got.
type active struct {
	served
	own *replica.Volume // nil if it is another node's
	// adopted: the other node has attached it for this one.
	adopted bool
}

// A hold is a volume that this node has attached, or wants to, or has others serve.
type hold struct {
	n    *Node
	line record.Line
	// These are guarded by the mutex of the node. users are all, own those of this
	// node. Gone holds are not used any more, and stop ends what the last user has
	// begun.
	users, own int
	gone       bool
	stop       func() bool
	// alone: the only user lets no others in.
	alone bool

	// active is nil before the first attachment and after the last one.
	active atomic.Pointer[active]
	// generation is that of the attachment, 0 if there is none. Who changes it has
	// mu, or is inside of the volume, which cannot be closed then.
	generation atomic.Int64
	mu         latch
	// revived is how often groups of the volume had been revived when it was got
	// for the first time, and -1 before that.
	revived int64
	// counted is the size of the volume whose groups that counts.
	counted int64
	// called is what the volume was called when somebody last looked.
	called atomic.Pointer[string]
	ended  error // why what was active before is not any more
	lost   error // why no device may go on
	fence  fence
}

// findLimit is how long a volume is looked for that a node has attached that does not
// answer, findPause between two attempts, and askPause between two questions to other nodes.
const (
	findLimit = 30 * time.Second
	findPause = 100 * time.Millisecond
	askPause  = time.Second
)

// hold returns the hold of a volume, with one user more, who must leave.
func (n *Node) hold(l record.Line) (*hold, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return nil, errStopped
	}
	h := n.holds[l]
	if h == nil {
		h = &hold{n: n, line: l, revived: -1, stop: func() bool { return true }}
		n.holds[l] = h
	}
	if h.alone {
		return nil, fmt.Errorf("it is being changed: %w", record.ErrInUse)
	}
	h.users++
	h.own++
	h.stop()
	return h, nil
}

// leaveOwn is called by a user of this node who has ended.
func (h *hold) leaveOwn() {
	h.n.mu.Lock()
	h.own--
	h.n.mu.Unlock()
	h.leave()
}

// leave is called by a user who has ended. The last one gives up at once what another node
// has attached: that is in use there until then. If it has for this node, clients whose
// connection that has ended come again, and this node still could not have it.
func (h *hold) leave() {
	h.n.mu.Lock()
	h.users--
	last := h.users == 0 && !h.gone
	a := h.active.Load()
	far := a != nil && a.own == nil && !a.adopted
	if last && !far {
		h.stop = h.n.store.Clock().AfterFunc(h.n.o.Keep, h.expire)
	}
	h.n.mu.Unlock()
	if last && far {
		h.expire()
	}
}

// expire gives the volume up if nobody uses it any more.
func (h *hold) expire() {
	n := h.n
	n.mu.Lock()
	if n.closing || h.gone {
		n.mu.Unlock()
		return
	}
	n.work.Add(1) // Close waits for it
	n.mu.Unlock()
	defer n.work.Done()
	if err := n.release(n.ctx, h.line); err != nil && !errors.Is(err, record.ErrInUse) {
		n.o.Log.Warn("a volume that nobody uses could not be given up as it should", "family", h.line.Family, "line", h.line.Line, "error", err)
	}
}

// release gives up a volume that has no users, ErrInUse if it has.
func (n *Node) release(ctx context.Context, l record.Line) error {
	n.mu.Lock()
	h := n.holds[l]
	if h == nil {
		n.mu.Unlock()
		return nil
	}
	if users := h.users; users > 0 {
		n.mu.Unlock()
		return fmt.Errorf("it is open %d times: %w", users, record.ErrInUse)
	}
	n.drop(h)
	n.parting[l]++
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.parting[l]--; n.parting[l] == 0 {
			delete(n.parting, l)
		}
	}()
	return h.release(ctx)
}

// drop takes a hold out of the list. The mutex is held.
func (n *Node) drop(h *hold) {
	h.gone = true
	h.stop()
	delete(n.holds, h.line)
}

// flushTime bounds how long a node that stops waits for a flush, which cannot be had
// when too few other nodes run. Nobody was told that it was done, so nothing is lost
// that was promised.
const flushTime = 5 * time.Second

// releaseAll gives up all volumes, also those that are in use.
func (n *Node) releaseAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	n.mu.Lock()
	var list []*hold
	for _, h := range n.holds {
		n.drop(h)
		list = append(list, h)
	}
	n.mu.Unlock()
	var all sync.WaitGroup
	for _, h := range list {
		all.Go(func() {
			if err := h.release(ctx); err != nil {
				n.o.Log.Warn("a volume is given up as by a crash, what was not flushed is found when it is attached again", "family", h.line.Family, "line", h.line.Line, "error", err)
			}
		})
	}
	all.Wait()
}

// use returns what serves the volume, which it attaches if nobody has.
func (h *hold) use(ctx context.Context) (*active, error) { return h.get(ctx, true) }

// get is use. If proxies, another node may attach the volume for this one.
func (h *hold) get(ctx context.Context, proxies bool) (*active, error) {
	if a := h.active.Load(); a != nil && a.Err() == nil {
		return a, nil
	}
	// Who has it may look for the volume for long.
	if err := h.mu.LockFor(ctx); err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	if err := h.endBroken(); err != nil {
		return nil, err
	}
	if a := h.active.Load(); a != nil {
		return a, nil
	}
	a, err := h.find(ctx, proxies)
	if err != nil {
		return nil, err
	}
	if h.isGone() { // while it was looked for
		return nil, errors.Join(block.ErrClosed, a.Close(), h.detach(ctx))
	}
	// Whoever had it before may have acknowledged what was lost since.
	v := h.n.state.View()
	if h.revived >= 0 && h.revivals(v, h.counted) != h.revived && !errors.Is(h.ended, replica.ErrRevived) {
		_ = a.Close()
		return nil, h.forsake(fmt.Errorf("while it was attached anew: %w", replica.ErrLost))
	}
	name, _ := h.name(v)
	h.revived, h.counted = h.revivals(v, name.Size), name.Size
	h.ended = nil
	h.active.Store(a)
	return a, nil
}

// endBroken ends what is active if it is of no use any more. It returns why no device may
// go on, if so. mu is held.
func (h *hold) endBroken() error {
	a := h.active.Load()
	if h.lost != nil || a == nil || a.Err() == nil {
		return h.lost
	}
	h.ended = a.Err()
	h.n.o.Log.Info("a volume is looked for anew", "family", h.line.Family, "line", h.line.Line, "why", h.ended)
	h.active.Store(nil)
	_ = a.Close()
	if errors.Is(h.ended, replica.ErrLost) {
		return h.forsake(h.ended)
	}
	return nil
}

// forsake lets all devices fail that have this hold: what they have written may be lost,
// and they must not be told that it was flushed. Who opens the volume anew gets another
// one.
func (h *hold) forsake(why error) error {
	h.lost = why
	h.n.mu.Lock()
	if !h.gone {
		h.n.drop(h)
	}
	h.n.mu.Unlock()
	_ = h.detach(h.n.ctx)
	return why
}

// revivals is how often groups of a volume of that size were revived.
func (h *hold) revivals(v *record.View, size int64) (sum int64) {
	f, _ := v.Families.Get(h.line.Family)
	if f == nil {
		return 0
	}
	for _, number := range groupsOf(f.Volume.Record, size, v.Pool.Record.Groups) {
		g, _ := v.Group(number)
		sum += int64(g.Revived)
	}
	return sum
}

// find attaches the volume, or finds the node that has. If that one does not answer, it
// waits until it does or its lease is over; and for a lease of this node, if it has none.
// mu is held.
func (h *hold) find(ctx context.Context, proxies bool) (*active, error) {
	n := h.n
	now := n.store.Clock().Now
	until, asked := now()+findLimit, now()-askPause
	ask := func() *active {
		if !proxies || now() < asked+askPause {
			return nil
		}
		asked = now()
		if f := h.proxy(ctx); f != nil {
			return &active{served: f, adopted: true}
		}
		return nil
	}
	for why := h.ended; ; {
		if errors.Is(why, replica.ErrCut) {
			if a := ask(); a != nil {
				return a, nil
			}
		}
		v, err := h.attach(ctx)
		if err == nil {
			return &active{served: v, own: v}, nil
		}
		if errors.Is(err, record.ErrInUse) {
			f, farErr := h.visit(ctx)
			if farErr == nil {
				return &active{served: f}, nil
			}
			err = errors.Join(err, farErr)
			if errors.Is(err, errFarAway) {
				if !proxies {
					// Who has asked can wait for its end as well, and is where the clients are.
					return nil, err
				}
				// Now, as this node cannot have it: one that is asked takes what is free.
				if a := ask(); a != nil {
					return a, nil
				}
			}
		} else if !passing(err) {
			return nil, err
		}
		why = err
		if now() > until {
			return nil, err
		}
		if !n.pause(ctx, findPause) {
			return nil, context.Cause(ctx)
		}
	}
}

// passing reports whether an error of attaching is one of this node's own right to
// attach anything, which it soon has again, or of its ways to others, or of groups that are
// revived meanwhile. Whether that has lost something is seen when the volume is attached.
func passing(err error) bool {
	for _, e := range []error{
		coord.ErrNoLease, coord.ErrLeaseLost, coord.ErrInDoubt, coord.ErrUnavailable,
		replica.ErrFenced, replica.ErrCut, replica.ErrLost, replica.ErrRevived,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// visit opens the volume at the node that has attached it.
func (h *hold) visit(ctx context.Context) (*far, error) {
	n := h.n
	if err := n.seenAll(ctx, nil); err != nil {
		return nil, err
	}
	v := n.state.View()
	who, generation := v.Attachment(h.line)
	name, ok := h.name(v)
	if generation == 0 || !ok || who.Node == n.is.Node {
		return nil, errNotHere
	}
	f, err := n.openFar(ctx, who.Node, h.line, replica.InfoOf(name.Size))
	if _, runs := v.Runs.Get(who.Node); runs && err != nil && !errors.Is(err, errNotHere) {
		err = fmt.Errorf("%w: %w", errFarAway, err)
	}
	return f, err
}

func (h *hold) isGone() bool {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return h.gone
}

// attach attaches the volume. mu is held.
func (h *hold) attach(ctx context.Context) (_ *replica.Volume, err error) {
	n := h.n
	if h.isGone() {
		return nil, block.ErrClosed
	}
	name, _, ok := nameOf(n.state.View(), h.line)
	if !ok {
		return nil, fmt.Errorf("the volume of line %d in family %d: %w", h.line.Line, h.line.Family, record.ErrNotFound)
	}
	lease, err := n.run.living(ctx)
	if err != nil {
		return nil, err
	}
	head, generation, err := n.catalog.Attach(ctx, name, lease.ID(), record.Attachment{Node: n.is.Node, Incarnation: n.incarnation})
	if err != nil {
		return nil, err
	}
	h.generation.Store(int64(generation))
	v, err := h.begin(ctx, lease, head)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching the volume %s: %w", name, err), h.detach(ctx))
	}
	return v, nil
}

// begin makes a volume of a head that was attached.
func (h *hold) begin(ctx context.Context, lease *coord.Lease, head record.Head) (*replica.Volume, error) {
	n := h.n
	view, err := n.state.Wait(ctx, coord.Revision(h.generation.Load()))
	if err != nil {
		return nil, err
	}
	family, size := head.Volume.Record, head.Name.Record.Size
	if err := n.ensure(ctx, view, family, size); err != nil {
		return nil, err
	}
	return replica.Attach(ctx, replica.Config{
		Groups: &replica.Groups{Store: n.store}, Agreed: agreed{n.state}, Trees: agreed{n.state}, Peer: n.peer,
		Lease: lease, Head: headOf(head), Generation: coord.Revision(h.generation.Load()), Tree: uint64(head.Volume.Revision),
		Size: size, ObjectSize: family.ObjectSize, Copies: family.Copies,
		Count: view.Pool.Record.Groups,
		Near:  n.near,
		Lives: n.lives, Removed: n.removed,
	})
}

func headOf(h record.Head) replica.Head {
	return replica.Head{Family: h.Line().Family, Version: h.Name.Record.Head}
}

// nameOf is what the volume of a line is called now.
func nameOf(v *record.View, l record.Line) (string, record.Name, bool) {
	for name, e := range v.Names.All() {
		if e.Record.Family == l.Family && e.Record.Line == l.Line {
			return name, e.Record, true
		}
	}
	return "", record.Name{}, false
}

// release flushes the volume and gives it up.
func (h *hold) release(ctx context.Context) error {
	if err := h.mu.LockFor(ctx); err != nil {
		return err // who has it finds that the hold is gone
	}
	defer h.mu.Unlock()
	a := h.active.Swap(nil)
	if a == nil {
		return h.detach(ctx)
	}
	if a.own == nil {
		return a.Close()
	}
	v := a.own
	err := v.Flush(ctx)
	if err != nil {
		v.Abandon(err) // or what waits for disks would keep it
	}
	if err == nil {
		if _, err := v.Tidy(ctx); err != nil {
			h.n.o.Log.Debug("what is marked will be compared at the next attachment", "family", h.line.Family, "line", h.line.Line, "error", err)
		}
	}
	return errors.Join(err, v.Close(), h.detach(ctx))
}

// detach gives up the attachment, also for somebody who does not wait any more. mu is held.
func (h *hold) detach(ctx context.Context) error {
	g := h.generation.Swap(0)
	if g == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	return h.n.catalog.Detach(ctx, h.line, coord.Revision(g))
}

// giveUpStray gives up an attachment of this node that nothing here goes by: whoever got
// it, or gave it up, has not heard how that ended. Other nodes would wait for it as long as
// this one lives.
func (n *Node) giveUpStray(ctx context.Context, l record.Line) error {
	h, err := n.hold(l)
	if err != nil {
		return nil // a moment later
	}
	defer h.leaveOwn()
	n.mu.Lock()
	parting := n.parting[l] > 0
	n.mu.Unlock()
	if parting || !h.mu.TryLock() {
		return nil // it is being given up, or attached
	}
	defer h.mu.Unlock()
	_ = h.endBroken() // its users hear of it
	who, generation := n.state.View().Attachment(l)
	if h.active.Load() != nil || generation == 0 || who != (record.Attachment{Node: n.is.Node, Incarnation: n.incarnation}) {
		return nil
	}
	n.o.Log.Info("an attachment that nothing goes by is given up", "family", l.Family, "line", l.Line)
	return n.catalog.Detach(ctx, l, generation)
}
