package wire

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/socket"
)

const (
	// maxBatch and maxBatchBytes bound what is sent without looking up: the
	// watchdog expects it to be through within Limits.Frame.
	maxBatch      = 256
	maxBatchBytes = 512 << 10
	// stageSize is the buffer in which small pieces are joined for connections
	// that cannot send from many places at once.
	stageSize = 64 << 10
	// joined is up to which size payloads are copied next to their headers, which
	// costs less than one more place to send from.
	joined = 512
	// promptBytes is up to how many bytes whoever does not wait sends himself through TLS: to
	// encrypt more takes so long that another processor should do it.
	promptBytes = 64 << 10
)

// An outbox sends frames. Whoever finds nobody sending sends all that is there, and
// what comes in meanwhile, with as few system calls as possible.
type outbox struct {
	nc     net.Conn
	vector *socket.Vector // of nc, or nil
	record *recordConn    // under nc if that is TLS, or nil
	fail   func(error)    // breaks the connection; must not wait

	mu      sync.Mutex
	idle    sync.Cond // signalled when sending ends
	queue   frameQueue
	queued  int // bytes in queue
	sending bool
	owed    bool // somebody has the right to send, and uses it at the end of a burst
	failed  error

	// Of whom has the right to send.
	settle  func()        // sendOwed, made once
	kick    chan struct{} // hands the right to the loop; holds one
	batch   []*frame
	heads   []byte
	pending bool // the batch is prepared and not sent completely
	staged  bool // and what TLS makes of it is collected

	writing atomic.Bool   // a write is under way
	rounds  atomic.Uint64 // batches sent
	sent    atomic.Uint64 // frames sent
}

func newOutbox(nc net.Conn, record *recordConn, fail func(error)) *outbox {
	o := &outbox{
		nc: nc, vector: socket.NewVector(nc), record: record, fail: fail,
		kick:  make(chan struct{}, 1),
		batch: make([]*frame, 0, maxBatch),
	}
	o.idle.L = &o.mu
	o.settle = o.sendOwed
	return o
}

// How a frame is put into an outbox.
type urgency uint8

const (
	later   urgency = iota // somebody calls flush
	waiting                // the caller sends, and waits for the partner to take it
	prompt                 // the caller does not wait; the loop does if it must
)

// put queues f, whose owner is told when it is not used any more. It returns false
// if the connection is broken, and has then told nobody. In a crowd others, who are
// about to put frames too, get the chance to have them sent along.
func (o *outbox) put(f *frame, u urgency, crowd bool) bool {
	o.mu.Lock()
	if o.failed != nil {
		o.mu.Unlock()
		return false
	}
	o.queue.push(f)
	o.queued += f.size()
	if o.sending && !o.owed || u == later {
		o.mu.Unlock()
		return true
	}
	o.sending, o.owed = true, false
	o.mu.Unlock()
	if crowd {
		runtime.Gosched()
	}
	o.pump(u == waiting)
	return true
}

// leave is put for who sends at the end of a burst.
func (o *outbox) leave(f *frame, b *block.Burst) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed != nil {
		return false
	}
	o.queue.push(f)
	o.queued += f.size()
	switch {
	case !o.sending:
		o.sending, o.owed = true, true
		b.Later(o.settle)
	case o.owed && o.queued > promptBytes:
		o.owed = false
		o.kick <- struct{}{}
	}
	return true
}

// sendOwed sends what was left to the end of a burst, unless somebody has done so.
func (o *outbox) sendOwed() {
	o.mu.Lock()
	owed := o.owed
	o.owed = false
	o.mu.Unlock()
	if owed {
		o.pump(false)
	}
}

// flush sends what is queued, and waits for the partner to take it.
func (o *outbox) flush() {
	o.mu.Lock()
	if o.sending && !o.owed || o.queue.first == nil {
		o.mu.Unlock()
		return
	}
	o.sending, o.owed = true, false
	o.mu.Unlock()
	o.pump(true)
}

// backlog is how many bytes are queued.
func (o *outbox) backlog() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queued
}

// remove takes f back. It reports whether it was still queued.
func (o *outbox) remove(f *frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.queue.remove(f) {
		return false
	}
	o.queued -= f.size()
	return true
}

// loop sends what others leave to it because they do not wait, until stop.
func (o *outbox) loop() {
	for range o.kick {
		o.pump(true)
	}
}

// pump sends what is queued. The caller has the right to send, and gives it up or
// away. Without wait it sends one batch at most.
func (o *outbox) pump(wait bool) {
	for {
		if !o.pending && !o.fetch() {
			return
		}
		if !wait && !o.isPrompt() {
			o.kick <- struct{}{}
			return
		}
		sent, err := o.write(wait)
		if err == nil && !sent {
			o.kick <- struct{}{}
			return
		}
		o.pending = false
		if err != nil {
			o.fail(err)
		}
		o.retire(err)
		if !wait {
			o.handOver()
			return
		}
	}
}

// isPrompt reports whether the batch can be sent by who does not wait.
func (o *outbox) isPrompt() bool {
	if o.vector != nil {
		return true
	}
	if o.record == nil || o.record.now == nil {
		return false
	}
	size := 0
	for _, f := range o.batch {
		size += f.size()
	}
	return size <= promptBytes
}

// handOver gives the right to send up, or to the loop if there is more to send.
func (o *outbox) handOver() {
	o.mu.Lock()
	more := o.queue.first != nil
	if !more {
		o.sending = false
		o.idle.Broadcast()
	}
	o.mu.Unlock()
	if more {
		o.kick <- struct{}{}
	}
}

// fetch prepares a batch of what is queued. If there is nothing the right to send
// is given up.
func (o *outbox) fetch() bool {
	o.mu.Lock()
	size := 0
	for len(o.batch) < maxBatch && size < maxBatchBytes {
		f := o.queue.pop()
		if f == nil {
			break
		}
		size += f.size()
		o.batch = append(o.batch, f)
	}
	o.queued -= size
	if len(o.batch) == 0 {
		o.sending = false
		o.idle.Broadcast()
		o.mu.Unlock()
		return false // and nothing of the batch is ours any more
	}
	o.mu.Unlock()
	o.pending = true
	if o.vector != nil {
		o.encode()
	}
	return true
}

// encode joins what is small, and adds the rest from where it lies.
func (o *outbox) encode() {
	need := 0
	for _, f := range o.batch {
		need += len(f.small)
		if len(f.payload) <= joined {
			need += len(f.payload)
		}
	}
	if cap(o.heads) < need {
		o.heads = make([]byte, 0, need)
	}
	o.heads = o.heads[:0]
	o.vector.Reset()
	from := 0
	for _, f := range o.batch {
		o.heads = append(o.heads, f.small...)
		if len(f.payload) <= joined {
			o.heads = append(o.heads, f.payload...)
			continue
		}
		o.vector.Add(o.heads[from:])
		o.vector.Add(f.payload)
		from = len(o.heads)
	}
	o.vector.Add(o.heads[from:])
}

// write sends the batch, or goes on with it. It reports whether all is sent;
// without wait it may return before.
func (o *outbox) write(wait bool) (sent bool, err error) {
	o.writing.Store(true)
	defer func() {
		o.writing.Store(false)
		o.rounds.Add(1)
	}()
	if o.vector != nil {
		return o.vector.Send(wait)
	}
	if o.record == nil {
		return true, o.stageAll()
	}
	if !o.staged {
		o.record.collect()
		if err := o.stageAll(); err != nil {
			return true, err
		}
		o.staged = true
	}
	if sent, err = o.record.sendCollected(wait); sent {
		o.staged = false
	}
	return sent, err
}

// stageAll joins pieces, so that TLS makes large records of them.
func (o *outbox) stageAll() error {
	o.heads = o.heads[:0]
	for _, f := range o.batch {
		if err := o.stage(f.small); err != nil {
			return err
		}
		if err := o.stage(f.payload); err != nil {
			return err
		}
	}
	return o.unstage()
}

func (o *outbox) stage(p []byte) error {
	if len(o.heads)+len(p) > stageSize || len(p) > stageSize {
		if err := o.unstage(); err != nil {
			return err
		}
	}
	if len(p) > stageSize {
		_, err := o.nc.Write(p)
		return err
	}
	o.heads = append(o.heads, p...)
	return nil
}

func (o *outbox) unstage() error {
	if len(o.heads) == 0 {
		return nil
	}
	_, err := o.nc.Write(o.heads)
	o.heads = o.heads[:0]
	return err
}

// retire tells the owners of the batch.
func (o *outbox) retire(err error) {
	o.sent.Add(uint64(len(o.batch)))
	for i, f := range o.batch {
		o.batch[i] = nil
		f.owner.frameSent(f, err)
	}
	o.batch = o.batch[:0]
}

// stop fails what is queued and returns when nobody sends. The connection is
// closed.
func (o *outbox) stop(err error) {
	o.mu.Lock()
	if o.failed == nil {
		o.failed = err
	}
	for o.sending {
		o.idle.Wait()
	}
	var rest []*frame
	for f := o.queue.pop(); f != nil; f = o.queue.pop() {
		rest = append(rest, f)
	}
	o.queued = 0
	o.mu.Unlock()
	for _, f := range rest {
		f.owner.frameSent(f, err)
	}
	close(o.kick)
}
