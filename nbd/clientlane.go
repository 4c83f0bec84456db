package nbd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
)

// cancelGrace is how long a cancelled request may wait for the bytes of its
// buffer to go out before it cuts the connection.
const cancelGrace = time.Second

// maxReplays bounds how often one request is sent, so that a request that
// kills the server does so a few times only.
const maxReplays = 10

// A lane is one of the connections of a client over time: it outlives the
// wires that carry it. It knows every request that has no reply yet.
//
// Who owns a call: its caller, until the lane has it; then the lane, until it
// is finished. A call whose caller has left is the lane's alone.
type lane struct {
	c    *Client
	up   atomic.Bool
	load atomic.Int32
	need chan struct{} // tells the redialer of a request; holds one

	mu      sync.Mutex
	idle    sync.Cond // signalled when sending ends
	wire    *wire     // nil while there is none
	sending bool      // somebody has the right to send
	seq     uint64
	table   [maxCalls]*call
	flight  callList
	queue   callQueue
	failed  error // what every request gets
}

func newLane(c *Client) *lane {
	l := &lane{c: c, need: make(chan struct{}, 1)}
	l.idle.L = &l.mu
	return l
}

// submit puts k on its way. After an error the caller still owns k.
func (l *lane) submit(k *call) error {
	l.mu.Lock()
	if l.failed != nil {
		l.mu.Unlock()
		return l.failed
	}
	l.seq++
	k.lane, k.cookie, k.state = l, l.seq<<16|uint64(k.id), callQueued
	l.table[k.id] = k
	l.flight.push(k)
	l.load.Add(1)
	l.queue.push(k)
	w := l.wire
	if w == nil || l.sending {
		l.mu.Unlock()
		if w == nil {
			l.wakeRedialer()
		}
		return nil
	}
	l.sending = true
	alone := l.flight.len == 1
	l.mu.Unlock()
	if !alone {
		// Those that are about to issue requests too get the chance to
		// have them sent along.
		runtime.Gosched()
	}
	l.pump(w, false)
	return nil
}

func (l *lane) wakeRedialer() {
	select {
	case l.need <- struct{}{}:
	default:
	}
}

// finish ends k with err. The caller holds mu.
func (l *lane) finish(k *call, err error) {
	k.err = err
	if k.state == callSending {
		k.replied = true // and the sender finishes it
		return
	}
	l.table[k.id] = nil
	l.flight.remove(k)
	l.load.Add(-1)
	k.release()
	if k.abandoned {
		if k.ghost != nil {
			l.c.ghosts.remove(k.ghost)
		}
		l.c.calls.give(k)
		return
	}
	k.finished = true
	k.done <- struct{}{}
}

// release tells who waits for it that buf is not used any more. The caller
// holds mu.
func (k *call) release() {
	k.busy = false
	if k.left != nil {
		close(k.left)
		k.left = nil
	}
}

// abandon is for a caller whose context has ended. It returns true when k is
// the caller's no more and its buffer will not be touched again, false when k
// has been finished meanwhile.
func (l *lane) abandon(k *call) bool {
	l.mu.Lock()
	if k.finished {
		l.mu.Unlock()
		return false
	}
	k.abandoned = true
	if k.state == callQueued {
		l.queue.remove(k)
		l.finish(k, nil)
		l.mu.Unlock()
		return true
	}
	w := l.wire
	var left chan struct{}
	if k.cmd == cmdWrite && k.state == callSending || k.cmd == cmdRead && k.busy {
		left = make(chan struct{})
		k.left = left
		if k.busy && w != nil {
			w.nc.SetReadDeadline(time.Unix(1, 0)) // the receiver looks up
		}
	}
	if k.changes() {
		k.ghost = l.c.ghosts.add(k.off, k.n)
	}
	l.mu.Unlock()
	if left == nil {
		return true
	}
	grace := time.NewTimer(cancelGrace)
	defer grace.Stop()
	select {
	case <-left:
		return true
	case <-grace.C:
	}
	if w != nil {
		w.fail(errors.New("a cancelled request could not be taken back otherwise"))
	}
	<-left
	return true
}

// attach gives the lane a connection, on which everything in flight is sent
// (again) in the order in which it was issued. It returns false if the lane
// has ended.
func (l *lane) attach(w *wire) bool {
	l.mu.Lock()
	if l.failed != nil {
		l.mu.Unlock()
		return false
	}
	l.wire = w
	l.queue = callQueue{}
	for k := l.flight.first; k != nil; k = k.next {
		l.queue.push(k)
	}
	start := l.queue.first != nil
	l.sending = start
	l.mu.Unlock()
	l.up.Store(true)
	go l.sendLoop(w)
	if start {
		w.kick <- struct{}{}
	}
	return true
}

// detach takes the connection away once nobody uses it any more, and decides
// what becomes of the requests on it.
func (l *lane) detach(w *wire, cause error) {
	l.up.Store(false)
	l.c.losses.Add(1) // before a request is answered on another connection
	w.fail(cause)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wire = nil
	for l.sending {
		l.idle.Wait()
	}
	close(w.kick)
	broken := isViolation(cause)
	var next *call
	for k := l.flight.first; k != nil; k = next {
		next = k.next
		sent := k.state != callQueued
		k.state = callQueued
		k.release()
		k.reply.reset()
		switch {
		case k.abandoned:
			l.finish(k, nil)
		case l.failed != nil:
			l.finish(k, l.failed)
		case l.c.target.Reconnect.Off:
			l.finish(k, l.c.lost("the connection is lost", cause))
		case sent && broken:
			l.finish(k, l.c.lost("the connection was cut", cause))
		case sent:
			if k.replays++; k.replays >= maxReplays {
				l.finish(k, l.c.lost(fmt.Sprintf("gave up %v after the connection was lost %d times", k.cmd, k.replays), cause))
			}
		}
	}
}

// drop fails everything in flight. There is no connection.
func (l *lane) drop(err error, forGood bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if forGood && l.failed == nil {
		l.failed = err
	}
	if l.wire != nil {
		l.wire.fail(err) // and detach does the rest
		return
	}
	l.queue = callQueue{}
	for l.flight.first != nil {
		l.finish(l.flight.first, err)
	}
}

// disconnect says good-bye.
func (l *lane) disconnect() {
	l.mu.Lock()
	if l.failed == nil {
		l.failed = block.ErrClosed
	}
	w := l.wire
	if w == nil {
		l.mu.Unlock()
		return
	}
	// A server that does not read does not hold us up.
	impatient := time.AfterFunc(goodbyeTime, func() { w.fail(errGoodbye) })
	defer impatient.Stop()
	for l.sending {
		l.idle.Wait()
	}
	l.sending = true
	l.mu.Unlock()
	w.goodbye()
	l.mu.Lock()
	l.sending = false
	l.idle.Broadcast()
	l.mu.Unlock()
}

// A ghost is the range of a request that changes the disk, whose caller has
// left while the server may still carry it out. Later requests to the range
// wait for it, so that it cannot overtake them.
type ghost struct {
	off, end uint64
	gone     chan struct{}
}

// ghosts are those of a client. There are hardly ever any.
type ghosts struct {
	n   atomic.Int32
	mu  sync.Mutex
	all map[*ghost]struct{}
}

func (g *ghosts) add(off, n uint64) *ghost {
	x := &ghost{off, off + n, make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[*ghost]struct{}{}
	}
	g.all[x] = struct{}{}
	g.n.Add(1)
	return x
}

func (g *ghosts) remove(x *ghost) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, x)
	g.n.Add(-1)
	close(x.gone)
}

// wait returns when no ghost is in the range.
func (g *ghosts) wait(ctx context.Context, off, n uint64) error {
	if g.n.Load() == 0 {
		return nil
	}
	for {
		x := g.find(off, off+n)
		if x == nil {
			return nil
		}
		select {
		case <-x.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *ghosts) find(off, end uint64) *ghost {
	g.mu.Lock()
	defer g.mu.Unlock()
	for x := range g.all {
		if x.off < end && off < x.end {
			return x
		}
	}
	return nil
}

// settle waits for the ghosts, though not for a server that does not answer.
func (g *ghosts) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTime)
	defer cancel()
	g.wait(ctx, 0, math.MaxUint64)
}
