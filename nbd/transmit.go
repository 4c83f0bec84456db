package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/budget"
	"github.com/strata-storage/strata/internal/socket"
)

// Sizes of the reader's own buffers.
const (
	// gulpSize is how much the reader takes from a socket at once. TLS never
	// gives more than a record.
	gulpSize    = 256 << 10
	gulpSizeTLS = 32 << 10
	// earlyReplies is after how many bytes, read or written, replies are not
	// kept until the gulp is finished: the client goes to work while the
	// reader does. Of short ones the first few are sent at once, then twice
	// as many.
	earlyReplies = 60 << 10
	firstReplies = 4
	// inlineWrite is the longest payload that the reader waits for. Longer
	// ones are written piece by piece as they come.
	inlineWrite = 16 << 10
	// pieceSize is how much of a READ is read and sent at once. It fits
	// into the processor's cache, and so does the socket's copy of it.
	pieceSize = 256 << 10
)

// A transmission is the server's side of a connection after the negotiation.
//
// One goroutine, the reader, takes requests from the socket, as many at once
// as there are. What the device can answer without blocking it answers itself,
// and sends the replies of a whole gulp with one system call. Writes that it can
// begin it does not wait for. Everything else
// goes to a goroutine of its own, of which there is a bounded number. Nobody
// holds a buffer while nothing is to be done.
type transmission struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	conn    net.Conn
	record  *recordConn      // under conn, if that is TLS
	sender  block.FileSender // the device, if it is one and conn is a socket
	drained *atomic.Bool     // set when nothing more is to be received
	server  *Server
	session *session
	count   *counters
	starter block.Starter // the device, if it is one
	w       replyWriter
	sending progress    // of a payload that the client has announced
	left    atomic.Bool // nothing will be received any more

	slots   chan struct{} // requests that workers have
	memory  budget.Budget // payload bytes of this connection
	workers sync.WaitGroup
	idle    sync.Pool   // of *request
	sick    atomic.Bool // the device has failed a request

	// The rest belongs to the reader.
	in       *buffer
	gulp     int // size of in, less the room for a header
	from, to int // what of in has been received and not yet handled
	out      *buffer
	unsent   int // replies in out
	moved    int // bytes read and long payloads written since replies were sent
	batch    int // how many of them are sent before the gulp is finished
	header   int // size of a request header

	// What happens to a payload that has not come whole, see payload.go.
	stream  *request // is written as it comes
	current *request // is received into a buffer of its own
	have    int      // how much of that is there
	lone    bool     // receive no more than a header: a long payload follows
	long    int      // the payload that was streamed last, if nothing was asked since
	skip    uint64   // bytes to be thrown away
	failed  *request // to be answered with failure when skip is 0
	failure error
	broken  error // why replies cannot be sent any more

	burst     block.Burst // what is begun with a gulp
	lingering lingering   // for the next request
}

func newTransmission(ctx context.Context, cancel context.CancelCauseFunc, c *serverConn, s *session, conn net.Conn) *transmission {
	t := &transmission{
		ctx: ctx, cancel: cancel, conn: conn, server: c.server, session: s, count: &c.counters, drained: &c.draining,
		slots: make(chan struct{}, c.server.limits.Requests), gulp: gulpSize, header: requestSize,
	}
	if tc, ok := conn.(*tls.Conn); ok {
		t.record, _ = tc.NetConn().(*recordConn)
		t.gulp = gulpSizeTLS
		if t.record != nil {
			// Records without data give receive nothing, and are nothing to wait for.
			t.record.idle, t.record.linger, t.record.found = t.sendReplies, t.linger, t.lingering.found
		}
	}
	if s.extended {
		t.header = extendedRequestSize
	}
	t.starter, _ = s.device.(block.Starter)
	t.memory.Give(c.server.limits.ConnBytes)
	t.lingering.last = &c.server.lingerer
	t.idle.New = func() any {
		r := &request{t: t}
		r.work = r.handle
		return r
	}
	t.w.init(conn, t.record, cancel)
	if u, ok := conn.(interface{ SetWriteBuffer(int) error }); ok && isUnix(conn) {
		// TCP finds its own size; here a long reply would have to wait
		// for the client several times. The system bounds it further.
		u.SetWriteBuffer(maxQueued)
	}
	return t
}

// errDisc says that the client has said goodbye.
var errDisc = errors.New("disconnected")

// run handles requests until the client leaves, and returns nil if it did so
// in an orderly way. Every request that was received has been answered then.
func (t *transmission) run() error {
	defer t.watch(t.server.limits.Stall)()
	var err error
	if raw := rawConn(t.conn); raw != nil {
		t.w.files.init(raw)
		t.sender, _ = t.session.device.(block.FileSender)
		err = t.receiveRaw(raw)
	} else {
		err = t.receive()
	}
	t.left.Store(true)
	t.dropCurrent()
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
			if t.drained.Load() {
				end = os.ErrDeadlineExceeded // as conn would say if we waited for it
				break
			}
			p := t.space()
			n, err := receiveNow(fd, p)
			switch {
			case err == syscall.EINTR:
			case err == syscall.EAGAIN:
				t.rest()
				if !t.linger() {
					return false
				}
			case err != nil:
				end = err
			case n == 0:
				end = t.endOfStream()
			default:
				t.lingering.found()
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
	if t.from < t.to || t.current != nil || t.stream != nil || t.skip > 0 {
		return fmt.Errorf("client left in the middle of a request: %w", io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// space returns where the next bytes are wanted.
func (t *transmission) space() []byte {
	if t.current != nil {
		return t.current.data.payload(t.current.remaining())[t.have:]
	}
	if t.in == nil || len(t.in.mem) < t.gulp {
		t.enlarge()
	}
	mem := t.in.mem
	if t.skip > 0 {
		return mem[:min(t.skip, uint64(len(mem)))]
	}
	start, end := t.window()
	if t.from != start {
		t.to = start + copy(mem[start:], mem[t.from:t.to])
		t.from = start
	}
	return mem[t.to:end]
}

// window returns where in the buffer what comes next begins, and what bounds
// it: payloads begin on a page, since processors copy faster between places
// that are aligned alike, and to that end long ones come one by one.
func (t *transmission) window() (start, end int) {
	end = len(t.in.mem)
	if t.stream != nil {
		return 0, min(t.stream.remaining()+t.header, end)
	}
	start = payloadStart - t.header
	switch {
	case t.lone && t.from == t.to:
		end = payloadStart
	case t.long > 0:
		end = min(payloadStart+t.long+t.header, end)
	}
	return start, end
}

// enlarge gives in its full size.
func (t *transmission) enlarge() {
	b := newBuffer(t.gulp)
	if t.in != nil {
		copy(b.mem, t.in.mem[t.from:t.to])
		t.in.release()
	}
	t.in, t.from, t.to = b, 0, t.to-t.from
}

// linger reports whether to look again for something to receive, rather than
// to sleep until it comes. There is nothing else to do for the client then.
func (t *transmission) linger() bool {
	socket.Yield()
	return t.count.inFlight.Load() == 0 && t.lingering.again(t.count.requests.Load())
}

// rest is called when there is nothing to receive. The start of a request waits
// for the rest of it in little memory.
func (t *transmission) rest() {
	t.sendReplies()
	n := t.to - t.from
	if t.in == nil || n > bufferSize(minBufferBits) {
		return
	}
	var small *buffer
	if n > 0 {
		small = newBuffer(1)
		copy(small.mem, t.in.mem[t.from:t.to])
	}
	t.in.release()
	t.in, t.from, t.to = small, 0, n
}

func (t *transmission) dropBuffers() {
	for _, b := range []*buffer{t.in, t.out} {
		if b != nil {
			b.release()
		}
	}
	t.in, t.out = nil, nil
}

// dropCurrent forgets a request whose payload will not come any more.
func (t *transmission) dropCurrent() {
	if t.current != nil {
		t.current.data.release()
		t.current = nil
		t.sending.end()
	}
}

// step works on the start of what has been received, and returns false if more
// is needed for that.
func (t *transmission) step() (bool, error) {
	if t.stream != nil {
		return t.streamWrite()
	}
	if t.to-t.from < t.header {
		return false, nil
	}
	return t.next()
}

// received works on n bytes that were put where space said.
func (t *transmission) received(n int) error {
	switch {
	case t.current != nil:
		before := t.have
		if t.have += n; t.have == t.current.remaining() {
			r := t.current
			t.current = nil
			t.sending.end()
			return t.start(r)
		}
		if t.have/roundSize > before/roundSize {
			t.sending.step()
		}
		return nil
	case t.skip > 0:
		if t.skip -= uint64(n); t.skip == 0 {
			t.answer(t.failed, t.failure)
		}
		return nil
	}
	t.to += n
	t.batch = firstReplies
	for t.current == nil && t.to > t.from {
		if t.broken != nil {
			return t.broken
		}
		more, err := t.step()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if t.unsent >= t.batch || t.moved >= earlyReplies {
			t.sendReplies()
			t.batch *= 2
		}
	}
	t.burst.End()
	return nil
}

// next handles the request at the start of what has been received. It returns
// false if more of it is needed.
func (t *transmission) next() (bool, error) {
	mem := t.in.mem[t.from:t.to]
	r := t.idle.Get().(*request)
	if err := r.parseHeader(mem, t.session.extended); err != nil {
		return false, err
	}
	t.lone, t.long = false, 0
	body := mem[t.header:]
	have := min(uint64(len(body)), r.payload)
	if f := r.check(t.session, t.server.limits.Payload); f != nil {
		t.from += t.header
		t.failAfterPayload(r, f)
		return true, nil
	}
	switch {
	case r.cmd == cmdDisc:
		return false, errDisc
	case r.length == 0 && r.cmd != cmdFlush && r.cmd != cmdBlockStatus:
		t.from += t.header
		t.answer(r, nil)
		return true, nil
	case t.canStream(r):
		t.from += t.header
		t.stream, t.long = r, int(r.payload)
		return true, nil
	case have == r.payload:
		t.from += t.header
		if t.inline(r, body[:have]) {
			t.from += int(have)
			return true, nil
		}
	case r.payload <= inlineWrite && int(r.payload) <= len(t.in.mem)-t.header:
		t.idle.Put(r)
		return false, nil
	default:
		t.from += t.header
	}
	return true, t.collect(r)
}

// answer answers a request that gives no data.
func (t *transmission) answer(r *request, err error) {
	t.room(maxErrorReply)
	t.out.end = len(r.appendResult(t.out.mem[:t.out.end], err))
	t.unsent++
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
	t.burst.End()
	if t.out == nil || t.out.end == t.out.start {
		return
	}
	t.broken = t.w.waitBelow(maxQueued)
	t.w.send(t.out)
	t.out, t.unsent, t.moved = nil, 0, 0
}

// start has a worker handle r.
func (t *transmission) start(r *request) error {
	if err := t.waitForWorker(); err != nil {
		r.dropData()
		return err
	}
	t.workers.Add(1)
	t.count.inFlight.Add(1)
	if !r.begin() {
		go r.work()
	}
	return nil
}

// waitForWorker waits until there may be one more, and until the client has
// taken enough of the replies of those before.
func (t *transmission) waitForWorker() error {
	if t.w.isAbove(maxQueued) {
		t.burst.End()
	}
	if err := t.w.waitBelow(maxQueued); err != nil {
		return err
	}
	select {
	case t.slots <- struct{}{}:
		return nil
	default:
	}
	t.sendReplies()
	select {
	case t.slots <- struct{}{}:
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}
