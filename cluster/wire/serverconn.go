package wire

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A serverConn is a connection of a server.
type serverConn struct {
	*conn
	server  *Server
	session *Session
	work    sync.WaitGroup // handlers
	jobs    chan *Request  // for idle workers; closed by the reader
	idle    atomic.Int32   // workers that wait, or are about to

	mu     sync.Mutex
	room   sync.Cond  // signalled when something is not held any more
	slots  []*Request // those without a reply, by the lower bits of their ID
	window int64      // their charges
	held   int64      // charges of all whose replies have not been sent
	count  int        // of those
	free   []*Request
	going  bool // nothing new is begun
	bye    frame
}

func newServerConn(s *Server, session *Session, t transport, limits agreed) *serverConn {
	c := &serverConn{conn: newConn(t, limits, s.limits), server: s, session: session}
	c.room.L = &c.mu
	c.slots = make([]*Request, limits.requests)
	c.jobs = make(chan *Request)
	c.bye.owner = ignored{}
	return c
}

// ignored is the owner of frames of which nobody needs to know.
type ignored struct{}

func (ignored) frameSent(*frame, error) {}

// serve reads until the connection ends, and returns when nothing of it is at
// work any more.
func (c *serverConn) serve() error {
	c.start()
	stop := make(chan struct{})
	go c.wakeAtEnd(stop)
	var err error
	for err == nil {
		err = c.receive()
	}
	c.fail(describe(err))
	close(stop)
	close(c.jobs)
	c.session.fail(c.cause)
	c.cancelAll()
	c.work.Wait()
	return c.end(c.cause)
}

// wakeAtEnd wakes a reader that waits for memory when the connection ends.
func (c *serverConn) wakeAtEnd(stop chan struct{}) {
	select {
	case <-c.closed:
		c.mu.Lock()
		c.room.Broadcast()
		c.mu.Unlock()
		c.cancelAll()
	case <-stop:
	}
}

// lost is what a request gets whose connection has ended.
func (c *serverConn) lost() error { return lostError(c.session.peer.Node, c.conn) }

func (c *serverConn) cancelAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.slots {
		if r != nil {
			r.ctx.cancel(context.Canceled)
		}
	}
}

// receive takes one frame.
func (c *serverConn) receive() error {
	var h header
	if err := c.in.next(&h); err != nil {
		return err
	}
	switch h.kind {
	case kindRequest, kindStream:
		return c.accept(&h)
	case kindCredit:
		return c.addCredit(&h)
	case kindCancel:
		c.mu.Lock()
		if r := c.find(h.id); r != nil {
			r.ctx.cancel(context.Canceled)
		}
		c.mu.Unlock()
	case kindPing:
	default:
		return violation("frame of kind %d from a client", h.kind)
	}
	return nil
}

// find returns the request in flight with that ID, or nil. The caller holds mu.
func (c *serverConn) find(id uint64) *Request {
	if slot := id & 0xffff; slot < uint64(len(c.slots)) {
		if r := c.slots[slot]; r != nil && r.id == id {
			return r
		}
	}
	return nil
}

func (c *serverConn) addCredit(h *header) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.find(h.id)
	if r == nil {
		return nil // its end is on the way
	}
	if !r.stream || h.room > uint32(r.room-r.credit) {
		return violation("credit of %d bytes, of %d at most", h.room, r.room-r.credit)
	}
	r.credit += int(h.room)
	if r.refill != nil {
		select {
		case r.refill <- struct{}{}:
		default:
		}
	}
	return nil
}

// accept takes a request and begins to carry it out.
func (c *serverConn) accept(h *header) error {
	r, err := c.admit(h)
	if err != nil {
		return err
	}
	if err := r.read(h); err != nil {
		c.withdraw(r)
		return err
	}
	if h.millis != 0 {
		r.ctx.deadline = time.Now().Add(time.Duration(h.millis) * time.Millisecond)
	}
	c.work.Add(1)
	if r.inline {
		r.execute()
		return nil
	}
	if r.try != nil {
		if done, err := r.try(r); done {
			r.inline = true // as if it had been one
			c.finish(r, err)
			c.work.Done()
			return nil
		}
		r.keep()
	}
	select {
	case c.jobs <- r:
	default:
		go r.run()
	}
	return nil
}

// maxIdle is how many workers of a connection wait for more to do. A new one costs
// more, as its stack has yet to grow.
const maxIdle = 16

// worker carries out r, and others after it.
func (c *serverConn) worker(r *Request) {
	r.execute()
	if c.idle.Add(1) <= maxIdle {
		for r := range c.jobs {
			c.idle.Add(-1)
			r.execute()
			if c.idle.Add(1) > maxIdle {
				break
			}
		}
	}
	c.idle.Add(-1)
}

// admit checks that the client keeps the limits, and waits for memory.
func (c *serverConn) admit(h *header) (*Request, error) {
	charge := int64(h.head) + int64(h.payload) + int64(h.room)
	slot := h.id & 0xffff
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case slot >= uint64(len(c.slots)):
		return nil, violation("request %#x in slot %d, of %d", h.id, slot, len(c.slots))
	case c.slots[slot] != nil:
		return nil, violation("request %#x in the slot of %#x, which has no reply yet", h.id, c.slots[slot].id)
	case h.kind == kindRequest && h.room > uint32(c.limits.payload),
		h.kind == kindStream && (h.room > uint32(c.limits.window) || h.room < minWindow):
		return nil, violation("room for %d bytes, expected at most %d, or for a stream %d, and at least %d",
			h.room, c.limits.payload, c.limits.window, minWindow)
	case c.window+charge > c.limits.bytes:
		return nil, violation("%d bytes in flight, of %d at most", c.window+charge, c.limits.bytes)
	}
	if err := c.awaitMemory(charge); err != nil {
		return nil, err
	}
	r := c.take()
	r.op, r.id, r.stream, r.room, r.credit = Op(h.op), h.id, h.kind == kindStream, int(h.room), int(h.room)
	r.charge = charge
	o := c.server.handler(r.op, c.going)
	r.handler, r.inline, r.try = o.Handler, o.Inline, o.Try
	c.slots[slot] = r
	c.window += charge
	c.held += charge
	c.count++
	return r, nil
}

// awaitMemory waits until the connection holds little enough, and the server as
// well. Replies that the client does not take count, so that it cannot have more
// and more of them. The caller holds mu.
func (c *serverConn) awaitMemory(charge int64) error {
	full := func() bool {
		return c.held+charge > 2*c.limits.bytes || c.count >= 2*len(c.slots)
	}
	if full() {
		c.mu.Unlock()
		c.out.flush()
		c.mu.Lock()
	}
	for full() && !c.isClosed() {
		c.room.Wait()
	}
	if c.server.memory.TryTake(charge) {
		return nil
	}
	c.mu.Unlock()
	c.out.flush()
	got := c.server.memory.Take(charge, c.closed)
	c.mu.Lock()
	if !got {
		return c.cause
	}
	return nil
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// take returns a request to fill in. The caller holds mu.
func (c *serverConn) take() *Request {
	if n := len(c.free); n > 0 {
		r := c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
		return r
	}
	r := &Request{c: c}
	r.run = func() { c.worker(r) }
	r.reply.owner = r
	return r
}

// read reads head and payload of r.
func (r *Request) read(h *header) (err error) {
	in := r.c.in
	if r.head, err = in.appendTo(r.head[:0], int(h.head)); err != nil {
		return err
	}
	n := int(h.payload)
	if n == 0 {
		return nil
	}
	if r.inline || r.try != nil {
		if r.payload = in.buffered(n); r.payload != nil {
			return nil
		}
	}
	r.in = newBuffer(n)
	r.payload = r.in.mem[:n]
	return in.into(r.payload)
}

// keep gives r memory of its own for what lies in the buffer of the reader.
func (r *Request) keep() {
	if n := len(r.payload); r.in == nil && n > 0 {
		r.in = newBuffer(n)
		r.payload = r.in.mem[:copy(r.in.mem, r.payload)]
	}
}

// withdraw forgets a request that did not arrive completely.
func (c *serverConn) withdraw(r *Request) {
	c.vacate(r)
	c.release(r)
}

// vacate makes the slot of r free. It comes before the reply: after that the client
// may use it again. It reports whether there are other requests.
func (c *serverConn) vacate(r *Request) (crowd bool) {
	if r.in != nil {
		r.in.release()
	}
	r.in, r.payload = nil, nil
	c.mu.Lock()
	c.slots[r.id&0xffff] = nil
	c.window -= r.charge
	crowd = c.count > 1
	c.mu.Unlock()
	return crowd
}

// finish sends the result of r.
func (c *serverConn) finish(r *Request, err error) {
	crowd := c.vacate(r)
	r.recycle = r.ctx.finish() // nobody can find and cancel r any more
	if err == nil {
		r.reply.set(header{kind: kindReply, id: r.id}, r.replyHead, r.replyPayload())
	} else {
		h, text := c.server.codec.reply(r.id, err)
		r.reply.set(h, text, nil)
	}
	if !r.inline {
		if !c.out.put(&r.reply, waiting, crowd) {
			c.release(r)
		}
		return
	}
	if !c.out.put(&r.reply, later, false) {
		c.release(r)
	} else if c.out.backlog() > maxBatchBytes {
		c.out.flush()
	}
}

// release takes back what r holds.
func (c *serverConn) release(r *Request) {
	if r.out != nil {
		r.out.release()
		r.out, r.outLen = nil, 0
	}
	r.reply.forget()
	r.replyHead = r.replyHead[:0]
	if cap(r.head) > 4096 || cap(r.replyHead) > 4096 {
		r.head, r.replyHead = nil, nil
	}
	c.server.memory.Give(r.charge)
	c.mu.Lock()
	c.held -= r.charge
	c.count--
	if r.recycle {
		r.handler, r.try, r.recycle, r.refill = nil, nil, false, nil
		c.free = append(c.free, r)
	}
	c.room.Signal()
	c.mu.Unlock()
}

// sayGoodbye tells the client that nothing new is begun. It closes the connection
// when it has got all replies.
func (c *serverConn) sayGoodbye() {
	c.mu.Lock()
	said := c.going
	c.going = true
	c.mu.Unlock()
	if !said {
		c.bye.set(header{kind: kindGoodbye}, nil, nil)
		c.out.put(&c.bye, prompt, false)
	}
}

// lostError is what is made of the end of c.
func lostError(node string, c *conn) error {
	return fmt.Errorf("node %s: %w: %w", node, ErrLost, c.cause)
}
