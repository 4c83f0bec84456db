package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
)

// A lane is one of the connections of a client.
type lane struct {
	*conn
	c    *Client
	load atomic.Int64

	mu      sync.Mutex
	slots   []*call // all that were ever made, by slot
	free    []*call
	window  int64 // charges of those that are not free
	waiters []*waiter
	seq     uint64
	burst   block.Burst // of the receiver
	refuse  error       // what new requests get
}

// A call is a request on its way. Who owns it: its caller, until it is submitted;
// then the lane, until it is finished. A call whose caller has left is the lane's
// alone.
type call struct {
	l      *lane
	slot   uint16
	id     uint64
	charge int64
	into   []byte
	done   chan struct{} // holds one token when the result is there
	timer  *time.Timer
	req    frame
	cancel frame
	stream *stream // nil if it is none
	// then is told when the call is finished, nil if somebody waits for it. It may take
	// as long as bound.
	then          Answered
	headInto      []byte
	bound, waited time.Duration

	// The result.
	head []byte
	n    int
	err  error

	// Guarded by lane.mu.
	active     bool // submitted and not finished
	sent       bool // req is not used any more
	answered   bool
	cancelling bool // cancel is in the outbox
	abandoned  bool // the caller has left
	busy       bool // the receiver fills into
	finished   bool
	left       chan struct{} // closed when nothing of the caller is used, if it waits for that
}

// loadOf is what a request counts when a connection is chosen.
func loadOf(charge int64) int64 { return charge + 1024 }

// A waiter is a caller that waits until it may have one more request in flight.
type waiter struct {
	charge int64
	ready  chan *call // gets nil if there will be none
}

func newLane(c *Client, t transport, limits agreed) *lane {
	l := &lane{c: c, conn: newConn(t, limits, c.limits)}
	l.conn.idle, l.conn.tick = l.burst.End, l.lookAround
	return l
}

// serve receives until the connection ends.
func (l *lane) serve() {
	defer l.c.work.Done()
	var err error
	for err == nil {
		err = l.receive()
	}
	l.burst.End()
	l.conn.fail(describe(err))
	l.c.fail(l.cause)
	l.end(l.cause)
	l.failAll(lostError(l.c.peer.Node, l.conn))
}

// check refuses what cannot be sent.
func (l *lane) check(r *Call, room int) error {
	if len(r.Head) > l.limits.head || len(r.Payload) > l.limits.payload || room > l.limits.payload {
		return fmt.Errorf("%w: head of %d bytes, payload of %d, room for %d, expected at most %d, %d and %d", ErrTooLarge,
			len(r.Head), len(r.Payload), room, l.limits.head, l.limits.payload, l.limits.payload)
	}
	return nil
}

// acquire returns a call when there may be one more of that charge in flight, for
// which it waits as long as bound.
func (l *lane) acquire(ctx context.Context, charge int64, bound time.Duration) (*call, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l.load.Add(loadOf(charge))
	l.mu.Lock()
	if k, err := l.tryAcquire(charge); k != nil || err != nil {
		l.mu.Unlock()
		if err != nil {
			l.load.Add(-loadOf(charge))
		}
		return k, err
	}
	w := &waiter{charge, make(chan *call, 1)}
	l.waiters = append(l.waiters, w)
	l.mu.Unlock()
	k, err := l.await(ctx, w, bound)
	if err != nil {
		l.load.Add(-loadOf(charge))
	}
	return k, err
}

// acquireNow is acquire for who does not wait. It returns nil if he would have to.
func (l *lane) acquireNow(charge int64) *call {
	l.mu.Lock()
	k, err := l.tryAcquire(charge)
	l.mu.Unlock()
	if k == nil || err != nil {
		return nil
	}
	l.load.Add(loadOf(charge))
	return k
}

func (l *lane) await(ctx context.Context, w *waiter, bound time.Duration) (*call, error) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	var err error
	select {
	case k := <-w.ready:
		if k == nil {
			return nil, l.refusal()
		}
		return k, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = fmt.Errorf("node %s: no request of others has ended for %v: %w", l.c.peer.Node, bound, context.DeadlineExceeded)
	}
	l.mu.Lock()
	for i, o := range l.waiters {
		if o == w {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			l.grant()
			break
		}
	}
	l.mu.Unlock()
	select {
	case k := <-w.ready: // granted in the meantime
		if k != nil {
			l.load.Add(loadOf(w.charge)) // recycle takes it back, and so does acquire
			l.recycle(k)
		}
	default:
	}
	return nil, err
}

func (l *lane) refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse
}

// tryAcquire returns nothing if one has to wait. The caller holds mu.
func (l *lane) tryAcquire(charge int64) (*call, error) {
	if l.refuse != nil {
		return nil, l.refuse
	}
	if len(l.waiters) > 0 {
		return nil, nil
	}
	return l.allot(charge), nil
}

// allot returns a call if there may be one. The caller holds mu.
func (l *lane) allot(charge int64) *call {
	if l.window+charge > l.limits.bytes {
		return nil
	}
	var k *call
	switch n := len(l.free); {
	case n > 0:
		k = l.free[n-1]
		l.free = l.free[:n-1]
	case len(l.slots) < l.limits.requests:
		k = &call{l: l, slot: uint16(len(l.slots)), done: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
		k.timer.Stop()
		k.req.owner, k.cancel.owner = k, k
		l.slots = append(l.slots, k)
	default:
		return nil
	}
	l.window += charge
	k.charge = charge
	return k
}

// grant serves those who wait, in order. The caller holds mu.
func (l *lane) grant() {
	for len(l.waiters) > 0 {
		k := l.allot(l.waiters[0].charge)
		if k == nil {
			return
		}
		l.waiters[0].ready <- k
		l.waiters = l.waiters[1:]
	}
}

// recycle takes back a call of which nobody knows.
func (l *lane) recycle(k *call) {
	l.mu.Lock()
	l.retake(k)
	l.mu.Unlock()
	l.endIfDone()
}

// retake is recycle for who holds mu.
func (l *lane) retake(k *call) {
	l.load.Add(-loadOf(k.charge))
	l.window -= k.charge
	k.req.forget()
	if cap(k.head) > 4096 {
		k.head = nil
	}
	k.into, k.stream, k.err, k.n, k.head = nil, nil, nil, 0, k.head[:0]
	k.then, k.headInto = nil, nil
	k.active, k.sent, k.answered, k.abandoned, k.finished, k.left = false, false, false, false, false, nil
	l.free = append(l.free, k)
	l.grant()
}

// endIfDone ends a session in which nothing new may begin, after its last request.
func (l *lane) endIfDone() {
	if l.idleForGood() {
		l.c.endIfIdle()
	}
}

// idleForGood reports whether nothing is in flight, and nothing new may begin.
func (l *lane) idleForGood() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse != nil && len(l.free) == len(l.slots)
}

// stopAdmitting makes new requests fail.
func (l *lane) stopAdmitting(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse == nil {
		l.refuse = cause
	}
	for _, w := range l.waiters {
		w.ready <- nil
	}
	l.waiters = nil
}

// submit sends a request, or leaves that to the end of b, if that is not nil.
func (l *lane) submit(k *call, h header, r *Call, b *block.Burst) {
	l.mu.Lock()
	l.seq++
	k.id = l.seq<<16 | uint64(k.slot)
	k.active = true
	crowd := len(l.slots)-len(l.free) > 1
	l.mu.Unlock()
	h.id = k.id
	k.req.set(h, r.Head, r.Payload)
	var put bool
	if b != nil {
		put = l.out.leave(&k.req, b)
	} else {
		put = l.out.put(&k.req, prompt, crowd)
	}
	if !put {
		l.fate(k, func() {
			k.sent, k.answered = true, true
			k.err = lostError(l.c.peer.Node, l.conn)
		})
	}
}

// fate changes the state of k, and finishes it if that was all that was missing.
func (l *lane) fate(k *call, change func()) {
	l.mu.Lock()
	change()
	done := l.proceed(k)
	l.mu.Unlock()
	l.after(k, done)
}

// What proceed has found.
type progress uint8

const (
	goesOn progress = iota
	isFree          // nobody knows of the call any more
	isTold          // who is to be told must be
)

// proceed finishes k if nothing of it is on its way. The caller holds mu, and calls after
// when he does not any more.
func (l *lane) proceed(k *call) progress {
	if k.left != nil && k.sent && !k.busy {
		close(k.left)
		k.left = nil
	}
	if !k.active || !k.sent || !k.answered || k.cancelling {
		return goesOn
	}
	k.active = false
	if k.abandoned {
		l.retake(k)
		return isFree
	}
	k.finished = true
	if k.then != nil {
		return isTold
	}
	k.done <- struct{}{}
	return goesOn
}

// after does what is left to be done after proceed.
func (l *lane) after(k *call, p progress) {
	switch p {
	case isFree:
		l.endIfDone()
	case isTold:
		var b block.Burst
		k.tell(&b)
		b.End()
	}
}

// tell tells the result of a call that is finished.
func (k *call) tell(b *block.Burst) {
	then, reply, err := k.then, Reply{append(k.headInto, k.head...), k.into[:k.n]}, k.err
	if err != nil {
		reply = Reply{}
	}
	k.l.recycle(k)
	then.Answered(reply, err, b)
}

// quit tells that nobody waits for a call any more, unless it has been finished.
func (l *lane) quit(k *call, id uint64, err error) {
	l.mu.Lock()
	if k.id != id || !k.active || k.then == nil {
		l.mu.Unlock()
		return
	}
	then, headInto := k.then, k.headInto
	k.then = nil // from now on it is one that somebody waits for
	l.mu.Unlock()
	var b block.Burst
	defer b.End()
	if l.abandon(k) {
		then.Answered(Reply{}, err, &b)
		return
	}
	k.then, k.headInto = then, headInto
	k.tell(&b)
}

// lookAround gives up calls for which nobody waits that have taken too long. It is called
// by the watchdog.
func (l *lane) lookAround(since time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.slots {
		if !k.active || k.then == nil {
			continue
		}
		if k.waited += since; k.waited > k.bound {
			go l.quit(k, k.id, l.lateness(k.bound))
		}
	}
}

// lateness is what is said of a node that has not answered.
func (l *lane) lateness(after time.Duration) error {
	return fmt.Errorf("node %s has not answered for %v: %w", l.c.peer.Node, after, context.DeadlineExceeded)
}

// frameSent is told that a frame of k is not used any more.
func (k *call) frameSent(f *frame, _ error) {
	l := k.l
	l.mu.Lock()
	if f == &k.req {
		k.sent = true
	} else {
		k.cancelling = false
	}
	done := l.proceed(k)
	l.mu.Unlock()
	l.after(k, done)
}

var errNotTaken = errors.New("a cancelled request could not be taken back otherwise")

// abandon is for a caller that does not wait any more. It returns true when k is
// the caller's no more and nothing of its memory will be touched again, false when
// k has been finished meanwhile.
func (l *lane) abandon(k *call) bool {
	l.mu.Lock()
	if k.finished {
		l.mu.Unlock()
		<-k.done
		return false
	}
	k.abandoned = true
	if !k.sent && l.out.remove(&k.req) {
		k.sent, k.answered = true, true
		l.proceed(k)
		l.mu.Unlock()
		l.endIfDone()
		return true
	}
	var left chan struct{}
	if !k.sent || k.busy {
		left = make(chan struct{})
		k.left = left
	}
	tell := !k.answered
	k.cancelling = tell
	l.mu.Unlock()
	if tell {
		k.cancel.set(header{kind: kindCancel, id: k.id}, nil, nil)
		if !l.out.put(&k.cancel, prompt, false) {
			l.fate(k, func() { k.cancelling = false })
		}
	}
	if left == nil {
		return true
	}
	// The caller wants its memory back, and a partner that moves nothing for that long
	// is half way to being taken for dead: the rest of the session is not worth more.
	grace := time.NewTimer(l.timeout.Silence / 2)
	defer grace.Stop()
	select {
	case <-left:
	case <-grace.C:
		l.conn.fail(errNotTaken)
		<-left
	}
	return true
}

// failAll ends what is in flight. Nothing is sent or received any more.
func (l *lane) failAll(err error) {
	l.stopAdmitting(err)
	var told []*call
	l.mu.Lock()
	for _, k := range l.slots {
		if !k.active {
			continue
		}
		k.busy, k.cancelling = false, false
		if !k.answered {
			k.answered, k.err = true, err
		}
		if l.proceed(k) == isTold {
			told = append(told, k)
		}
	}
	l.mu.Unlock()
	for _, k := range told {
		l.after(k, isTold)
	}
}
