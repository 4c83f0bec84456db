package wire

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// An Op is the number of an operation, at most MaxOp.
type Op uint16

// MaxOp is the greatest number of an operation.
const MaxOp Op = 1023

// A Handler carries out a request. What it returns is the result, as soon as it
// returns; after nil the reply that it has set. Neither ctx nor r may be used
// afterwards. ctx ends when the client has cancelled the request, when its time
// is over, and when the connection is lost.
type Handler func(ctx context.Context, r *Request) error

// An Operation is what a [Server] does with requests of one Op.
type Operation struct {
	Handler Handler
	// Inline is for handlers that never wait for anything: they run in the reader
	// of the connection, and nothing is woken for them. They must not use
	// [Request.Send].
	Inline bool
	// Try, if not nil, is called by the reader before a worker is woken for Handler.
	// It must not wait for anything either, and reports whether it has done what was
	// asked; err is the result then. Otherwise Handler does it.
	Try func(r *Request) (done bool, err error)
}

// A Request is one that a server is asked to carry out.
type Request struct {
	c       *serverConn
	op      Op
	id      uint64
	stream  bool
	room    int
	head    []byte
	payload []byte
	in      *buffer // the memory of payload, or nil if that is the reader's
	charge  int64

	handler Handler
	inline  bool
	try     func(r *Request) (done bool, err error)
	run     func() // what a new worker does, made once
	ctx     requestContext

	replyHead []byte
	out       *buffer // the memory of the reply's payload
	outLen    int
	reply     frame

	credit  int           // for items; guarded by c.mu
	refill  chan struct{} // tells of more credit; holds one
	recycle bool
}

// Op returns the operation.
func (r *Request) Op() Op { return r.op }

// Session returns the session that the request belongs to.
func (r *Request) Session() *Session { return r.c.session }

// Head returns the structured part. It is valid until the handler returns.
func (r *Request) Head() []byte { return r.head }

// Payload returns the payload, which the handler may change. It is valid until the
// handler returns.
func (r *Request) Payload() []byte { return r.payload }

// Room is how large a payload of the reply may be.
func (r *Request) Room() int {
	if r.stream {
		return 0
	}
	return r.room
}

// Buffer returns n bytes of memory, with any content, that become the payload of
// the reply. It fails if the client has no room for them. Each call replaces what
// was set before.
func (r *Request) Buffer(n int) ([]byte, error) {
	if n < 0 || n > r.Room() {
		return nil, fmt.Errorf("reply of %d bytes, the client has room for %d: %w", n, r.Room(), ErrTooLarge)
	}
	if r.out != nil && len(r.out.mem) < n {
		r.out.release()
		r.out = nil
	}
	if r.out == nil && n > 0 {
		r.out = newBuffer(n)
	}
	r.outLen = n
	return r.replyPayload(), nil
}

func (r *Request) replyPayload() []byte {
	if r.outLen == 0 {
		return nil
	}
	return r.out.mem[:r.outLen]
}

// Shorten makes the payload of the reply the first n bytes of it.
func (r *Request) Shorten(n int) { r.outLen = min(r.outLen, max(n, 0)) }

// SetHead makes a copy of head the structured part of the reply.
func (r *Request) SetHead(head []byte) error {
	if len(head) > r.c.limits.head {
		return fmt.Errorf("head of %d bytes, the limit is %d: %w", len(head), r.c.limits.head, ErrTooLarge)
	}
	r.replyHead = append(r.replyHead[:0], head...)
	return nil
}

// itemSize is what an item takes of the window of its stream.
func itemSize(head, payload int) int { return headerSize + head + payload }

// MaxItem is how large head and payload of an item may be together: half of the
// window, as the client may keep that much of the window for a while.
func (r *Request) MaxItem() int {
	if !r.stream {
		return 0
	}
	return min(r.room/2-headerSize, r.c.limits.payload)
}

// Send sends an item of a stream. It waits until the client has room for it, which
// is how a slow client slows a stream down, though not for longer than
// Limits.Timeout. Nothing of the arguments is used any more when it returns. It is
// for one goroutine at a time.
func (r *Request) Send(head, payload []byte) error {
	n := itemSize(len(head), len(payload))
	if len(head) > r.c.limits.head || n-headerSize > r.MaxItem() {
		return fmt.Errorf("item of %d and %d bytes, the client takes at most %d and %d together: %w",
			len(head), len(payload), r.c.limits.head, r.MaxItem(), ErrTooLarge)
	}
	if err := r.awaitCredit(n); err != nil {
		return err
	}
	i := newItem(header{kind: kindItem, id: r.id}, head, payload)
	if !r.c.out.put(&i.frame, waiting, false) {
		i.frameSent(&i.frame, nil)
		return r.c.lost()
	}
	return nil
}

func (r *Request) awaitCredit(n int) error {
	if r.takeCredit(n) {
		return nil
	}
	timer := time.NewTimer(r.c.timeout.Timeout)
	defer timer.Stop()
	for !r.takeCredit(n) {
		select {
		case <-r.refill:
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-timer.C:
			return fmt.Errorf("the client takes no items for %v: %w", r.c.timeout.Timeout, syscall.ETIMEDOUT)
		}
	}
	return nil
}

func (r *Request) takeCredit(n int) bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.credit < n {
		if r.refill == nil {
			r.refill = make(chan struct{}, 1)
		}
		return false
	}
	r.credit -= n
	return true
}

// execute runs the handler and sends what it returns.
func (r *Request) execute() {
	err := r.handler(&r.ctx, r)
	c := r.c
	c.finish(r, err)
	c.work.Done()
}

// frameSent is told that the reply is not used any more.
func (r *Request) frameSent(*frame, error) { r.c.release(r) }

// An item is one on its way.
type item struct {
	frame
	mem *buffer
}

func newItem(h header, head, payload []byte) *item {
	i := &item{}
	i.owner = i
	if len(payload) > 0 {
		i.mem = newBuffer(len(payload))
		payload = i.mem.mem[:copy(i.mem.mem, payload)]
	}
	i.set(h, head, payload)
	return i
}

func (i *item) frameSent(*frame, error) {
	if i.mem != nil {
		i.mem.release()
		i.mem = nil
	}
}
