package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// Sizes of the reader's own buffers.
const (
	// gulpSize is how much the reader takes from a socket at once. TLS never
	// gives more than a record.
	gulpSize    = 256 << 10
	gulpSizeTLS = 32 << 10
	// inlineWrite is the longest write that the reader does by itself.
	inlineWrite = 64 << 10
	// pieceSize is how much of a READ is read and sent at once. It fits
	// into the processor's cache, and so does the socket's copy of it.
	pieceSize = 256 << 10
)

// A transmission is the server's side of a connection after the negotiation.
//
// One goroutine, the reader, takes requests from the socket, as many at once
// as there are. What the device can answer without blocking it answers itself,
// and sends the replies of a whole gulp with one system call. Everything else
// goes to a goroutine of its own, of which there is a bounded number. Nobody
// holds a buffer while nothing is to be done.
type transmission struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	conn    net.Conn
	record  *recordConn // under conn, if that is TLS
	server  *Server
	session *session
	count   *counters
	w       replyWriter

	slots   chan struct{} // requests that workers have
	memory  budget        // payload bytes of this connection
	workers sync.WaitGroup
	idle    sync.Pool // of *request

	// The rest belongs to the reader.
	in       *buffer
	gulp     int // size of in
	from, to int // what of in has been received and not yet handled
	out      *buffer
	header   int      // size of a request header
	current  *request // whose payload is being received into its own buffer
	have     int      // how much of that is there
	skip     uint64   // bytes of payload to be thrown away
	refused  *request // to be answered when skip is 0
	lone     bool     // receive no more than a header: a long payload follows
}

func newTransmission(ctx context.Context, cancel context.CancelCauseFunc, c *serverConn, s *session, conn net.Conn) *transmission {
	t := &transmission{
		ctx: ctx, cancel: cancel, conn: conn, server: c.server, session: s, count: &c.counters,
		slots: make(chan struct{}, c.server.limits.Requests), gulp: gulpSize, header: requestSize,
	}
	if tc, ok := conn.(*tls.Conn); ok {
		t.record, _ = tc.NetConn().(*recordConn)
		t.gulp = gulpSizeTLS
	}
	if s.extended {
		t.header = extendedRequestSize
	}
	t.memory.free = c.server.limits.ConnBytes
	t.idle.New = func() any {
		r := &request{t: t}
		r.work = r.handle
		return r
	}
	t.w.init(conn, t.record, cancel)
	return t
}

// errDisc says that the client has said goodbye.
var errDisc = errors.New("disconnected")

// run handles requests until the client leaves, and returns nil if it did so
// in an orderly way. Every request that was received has been answered then.
func (t *transmission) run() error {
	defer t.w.watch(t.server.limits.Stall)()
	var err error
	if raw := rawConn(t.conn); raw != nil {
		err = t.receiveRaw(raw)
	} else {
		err = t.receive()
	}
	t.sendReplies()
	t.workers.Wait()
	broken := t.w.waitBelow(-1)
	t.dropBuffers()
	if tc, ok := t.conn.(*tls.Conn); ok && broken == nil {
		tc.CloseWrite()
	}
	switch {
	case errors.Is(err, errDisc):
		return nil
	case t.ctx.Err() != nil:
		return context.Cause(t.ctx) // why the connection broke
	}
	return err
}

// rawConn returns the way to conn's file descriptor, nil if there is none.
func rawConn(conn net.Conn) syscall.RawConn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// receiveRaw receives from a socket. It waits for the socket to become
// readable without a buffer in hand, so that an idle connection costs little.
func (t *transmission) receiveRaw(raw syscall.RawConn) error {
	var end error
	err := raw.Read(func(fd uintptr) bool {
		for end == nil {
			if end = context.Cause(t.ctx); end != nil {
				break
			}
			p := t.space()
			n, err := receiveNow(fd, p)
			switch {
			case err == syscall.EINTR:
			case err == syscall.EAGAIN:
				t.rest()
				return false
			case err != nil:
				end = err
			case n == 0:
				end = t.endOfStream()
			default:
				end = t.received(n)
			}
		}
		return true
	})
	if end != nil {
		return end
	}
	return err
}

// receive receives from any connection.
func (t *transmission) receive() error {
	for {
		if t.record == nil || !t.record.pending() {
			t.sendReplies()
		}
		n, err := t.conn.Read(t.space())
		if n > 0 {
			if err := t.received(n); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return t.endOfStream()
		}
		if err != nil {
			return err
		}
	}
}

// endOfStream is what it means that the client sends nothing any more.
func (t *transmission) endOfStream() error {
	if t.from < t.to || t.current != nil || t.skip > 0 {
		return fmt.Errorf("client left in the middle of a request: %w", io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// space returns where the next bytes are wanted.
func (t *transmission) space() []byte {
	if t.current != nil {
		return t.current.data.payload(int(t.current.payload))[t.have:]
	}
	if t.in == nil {
		t.in = newBuffer(t.gulp)
		t.from, t.to = 0, 0
	}
	mem := t.in.payload(t.gulp)
	if t.skip > 0 {
		return mem[:min(t.skip, uint64(len(mem)))]
	}
	if t.from == t.to {
		t.from, t.to = 0, 0
		if t.lone {
			return mem[:t.header]
		}
	} else if t.from > 0 {
		t.to = copy(mem, mem[t.from:t.to])
		t.from = 0
	}
	return mem[t.to:]
}

// rest is called when there is nothing to receive.
func (t *transmission) rest() {
	t.sendReplies()
	if t.in != nil && t.from == t.to {
		t.in.release()
		t.in = nil
	}
}

func (t *transmission) dropBuffers() {
	for _, b := range []*buffer{t.in, t.out} {
		if b != nil {
			b.release()
		}
	}
	t.in, t.out = nil, nil
	if t.current != nil {
		t.current.data.release()
		t.current = nil
	}
}

// received works on n bytes that were put where space said.
func (t *transmission) received(n int) error {
	switch {
	case t.current != nil:
		if t.have += n; t.have == int(t.current.payload) {
			r := t.current
			t.current = nil
			return t.start(r)
		}
		return nil
	case t.skip > 0:
		if t.skip -= uint64(n); t.skip == 0 {
			t.answerRefused()
		}
		return nil
	}
	t.to += n
	for t.current == nil && t.to-t.from >= t.header {
		more, err := t.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	return nil
}

// next handles the request at the start of what has been received. It returns
// false if more of it is needed.
func (t *transmission) next() (bool, error) {
	mem := t.in.payload(t.gulp)[t.from:t.to]
	r := t.idle.Get().(*request)
	if err := r.parseHeader(mem, t.session.extended); err != nil {
		return false, err
	}
	if r.refusal = r.check(t.session, t.server.limits.Payload); r.refusal != nil {
		t.from += t.header
		t.refuseAfterPayload(r)
		return true, nil
	}
	switch {
	case r.cmd == cmdDisc:
		return false, errDisc
	case r.length == 0 && r.cmd != cmdFlush && r.cmd != cmdBlockStatus:
		t.from += t.header
		t.answer(r, nil)
		return true, nil
	}
	t.lone = r.payload > inlineWrite
	body := mem[t.header:]
	if uint64(len(body)) >= r.payload {
		body = body[:r.payload]
		t.from += t.header + len(body)
		if t.inline(r, body) {
			return true, nil
		}
		if r.payload > 0 {
			if err := t.takePayload(r, body); err != nil {
				return false, err
			}
		}
		return true, t.start(r)
	}
	if r.payload <= inlineWrite && int(r.payload) <= t.gulp-t.header {
		t.idle.Put(r)
		return false, nil
	}
	t.from = t.to
	if err := t.takePayload(r, body); err != nil {
		return false, err
	}
	t.current, t.have = r, len(body)
	return true, nil
}

// takePayload gives r a buffer for its payload, of which body is the start.
func (t *transmission) takePayload(r *request, body []byte) error {
	n := int(r.payload)
	if r.data = t.tryBorrow(n); r.data == nil {
		t.sendReplies()
		b, err := t.borrow(n)
		if err != nil {
			return err
		}
		r.data = b
	}
	copy(r.data.payload(n), body)
	return nil
}

// refuseAfterPayload answers r with an error when its payload has passed.
func (t *transmission) refuseAfterPayload(r *request) {
	have := min(uint64(t.to-t.from), r.payload)
	t.from += int(have)
	t.refused, t.skip = r, r.payload-have
	if t.skip == 0 {
		t.answerRefused()
	}
}

func (t *transmission) answerRefused() {
	r := t.refused
	t.refused = nil
	t.count.requests.Add(1)
	t.count.errors.Add(1)
	t.room(maxErrorReply)
	t.out.end = len(r.appendError(t.out.mem[:t.out.end], r.refusal.code, r.refusal.text))
	r.refusal = nil
	t.idle.Put(r)
}

// answer answers a request that gives no data.
func (t *transmission) answer(r *request, err error) {
	t.room(maxErrorReply)
	t.out.end = len(r.appendResult(t.out.mem[:t.out.end], err))
	t.idle.Put(r)
}

// room makes sure that n bytes can be appended to out.
func (t *transmission) room(n int) {
	if t.out != nil && t.out.spare() < n {
		t.sendReplies()
	}
	if t.out == nil {
		t.out = newBuffer(pieceSize)
		t.out.start, t.out.end = 0, 0
	}
}

// sendReplies sends what the reader has answered.
func (t *transmission) sendReplies() {
	if t.out == nil || t.out.end == t.out.start {
		return
	}
	t.w.waitBelow(maxQueued)
	t.w.send(t.out)
	t.out = nil
}

// borrow returns a buffer for n bytes of payload as soon as the limits allow.
func (t *transmission) borrow(n int) (*buffer, error) {
	if !t.memory.take(int64(n), t.ctx.Done()) {
		return nil, context.Cause(t.ctx)
	}
	if !t.server.memory.take(int64(n), t.ctx.Done()) {
		t.memory.give(int64(n))
		return nil, context.Cause(t.ctx)
	}
	return t.lend(n), nil
}

// tryBorrow is borrow for who cannot wait. It returns nil if it would have to.
func (t *transmission) tryBorrow(n int) *buffer {
	if !t.memory.tryTake(int64(n)) {
		return nil
	}
	if !t.server.memory.tryTake(int64(n)) {
		t.memory.give(int64(n))
		return nil
	}
	return t.lend(n)
}

func (t *transmission) lend(n int) *buffer {
	b := newBuffer(n)
	b.lender, b.charge = t, int64(n)
	return b
}

// giveBack returns what borrow has taken.
func (t *transmission) giveBack(n int64) {
	t.memory.give(n)
	t.server.memory.give(n)
}

// start has a worker handle r.
func (t *transmission) start(r *request) error {
	select {
	case t.slots <- struct{}{}:
	default:
		t.sendReplies()
		select {
		case t.slots <- struct{}{}:
		case <-t.ctx.Done():
			return context.Cause(t.ctx)
		}
	}
	t.workers.Add(1)
	t.count.inFlight.Add(1)
	go r.work()
	return nil
}
