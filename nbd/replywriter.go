package nbd

import (
	"net"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/socket"
)

// A replyWriter sends replies. Whoever has one puts it into the queue; whoever
// finds nobody sending sends all that is there, and what comes in meanwhile,
// with as few system calls as possible.
type replyWriter struct {
	conn   net.Conn
	record *recordConn // under conn, if that is TLS
	fail   func(error) // breaks the connection; must not wait for the reader

	mu      sync.Mutex
	drained sync.Cond
	queue   []*buffer
	spare   []*buffer
	queued  int // memory of those in queue that nobody has lent
	sending bool
	failed  error

	files fileSending

	vector *socket.Vector // of conn, or nil
	settle func()         // sendLeft, made once
	iov    [][]byte       // what is to be sent without it
	rest   net.Buffers    // of iov
	taking progress       // of the system calls
}

// maxQueued is how much memory may be in replies that wait before the reader of
// requests has to wait as well. Replies in lent memory do not count: there is
// a limit on those already.
const maxQueued = 1 << 20

func (w *replyWriter) init(conn net.Conn, record *recordConn, fail func(error)) {
	w.conn, w.record, w.fail = conn, record, fail
	w.vector = socket.NewVector(conn)
	w.drained.L = &w.mu
	w.settle = w.sendLeft
}

// send queues b, which belongs to the writer from now on, and sends the queue
// if nobody does.
func (w *replyWriter) send(b *buffer) {
	if w.put(b) {
		w.pump()
	}
}

// leave is send at the end of a burst, and does not wait for the client then.
func (w *replyWriter) leave(b *buffer, burst *block.Burst) {
	if w.put(b) {
		burst.Later(w.settle)
	}
}

// put queues b. It returns true if the caller has to send the queue now.
func (w *replyWriter) put(b *buffer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, b)
	if b.lender == nil {
		w.queued += len(b.mem)
	}
	mine := !w.sending
	w.sending = true
	return mine
}

// take takes what is queued. If that is nothing nobody sends any more.
func (w *replyWriter) take() (batch []*buffer, failed error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.sending = false
		w.drained.Broadcast()
		return nil, nil
	}
	batch = w.queue
	w.queue, w.queued = w.spare[:0], 0
	return batch, w.failed
}

// taken is called when nothing of a batch is used any more.
func (w *replyWriter) taken(batch []*buffer, failed error) {
	for i, b := range batch {
		b.release()
		batch[i] = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spare = batch
	if failed != nil && w.failed == nil {
		w.failed = failed
		w.fail(failed)
	}
}

// pump sends the queue until it is empty.
func (w *replyWriter) pump() {
	for batch, failed := w.take(); batch != nil; batch, failed = w.take() {
		w.sendBatch(batch, failed)
	}
}

func (w *replyWriter) sendBatch(batch []*buffer, failed error) {
	if failed == nil {
		failed = w.write(batch)
	}
	w.taken(batch, failed)
}

// sendLeft is pump for who must not wait: the rest is sent by a goroutine if the client
// does not take it at once.
func (w *replyWriter) sendLeft() {
	if w.vector == nil || w.record != nil {
		go w.pump()
		return
	}
	for batch, failed := w.take(); batch != nil; batch, failed = w.take() {
		if failed != nil || !short(batch) {
			go func() {
				w.sendBatch(batch, failed)
				w.pump()
			}()
			return
		}
		for _, b := range batch {
			w.vector.Add(b.mem[b.start:b.end])
		}
		sent, err := w.vector.Send(false)
		if !sent && err == nil {
			go func() {
				w.taken(batch, w.writeRound())
				w.pump()
			}()
			return
		}
		w.taken(batch, err)
	}
}

// short reports whether a batch is sent in one round.
func short(batch []*buffer) bool {
	size := 0
	for _, b := range batch {
		if size += b.end - b.start; b.file != nil || size > roundSize {
			return false
		}
	}
	return true
}

// isAbove reports whether waitBelow would wait.
func (w *replyWriter) isAbove(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed == nil && w.sending && w.queued > n
}

// waitBelow waits until at most n bytes of queued count; with n < 0, until
// everything has been sent. It returns the error that broke the connection.
func (w *replyWriter) waitBelow(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.failed == nil && w.sending && (n < 0 || w.queued > n) {
		w.drained.Wait()
	}
	return w.failed
}

// write sends a batch.
func (w *replyWriter) write(batch []*buffer) error {
	if w.record != nil {
		return w.writeRecords(batch)
	}
	size := 0
	for _, b := range batch {
		for p := b.mem[b.start:b.end]; len(p) > 0; {
			n := min(len(p), roundSize-size)
			w.add(p[:n])
			p, size = p[n:], size+n
			if size == roundSize {
				if err := w.writeRound(); err != nil {
					return err
				}
				size = 0
			}
		}
		if b.file == nil {
			continue
		}
		if err := w.writeRound(); err != nil {
			return err
		}
		size = 0
		if err := w.files.send(b, &w.taking); err != nil {
			return err
		}
	}
	return w.writeRound()
}

// add adds p to what is sent next.
func (w *replyWriter) add(p []byte) {
	if w.vector != nil {
		w.vector.Add(p)
	} else {
		w.iov = append(w.iov, p)
	}
}

// writeRound sends what was added.
func (w *replyWriter) writeRound() (err error) {
	w.taking.begin()
	defer w.taking.end()
	if w.vector != nil {
		_, err = w.vector.Send(true)
		return err
	}
	w.rest = w.iov
	_, err = w.rest.WriteTo(w.conn)
	clear(w.iov)
	w.iov = w.iov[:0]
	return err
}

// writeRecords sends a batch through TLS.
func (w *replyWriter) writeRecords(batch []*buffer) error {
	w.taking.begin()
	defer w.taking.end()
	w.record.collect()
	for _, b := range batch {
		for p := b.mem[b.start:b.end]; len(p) > 0; {
			n := min(len(p), roundSize)
			if _, err := w.conn.Write(p[:n]); err != nil {
				return err
			}
			w.taking.step()
			p = p[n:]
		}
	}
	return w.record.sendCollected()
}
