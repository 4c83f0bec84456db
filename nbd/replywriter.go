package nbd

import (
	"net"
	"sync"

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
}

// send queues b, which belongs to the writer from now on, and sends the queue
// if nobody does.
func (w *replyWriter) send(b *buffer) {
	w.mu.Lock()
	w.queue = append(w.queue, b)
	if b.lender == nil {
		w.queued += len(b.mem)
	}
	if w.sending {
		w.mu.Unlock()
		return
	}
	w.sending = true
	for len(w.queue) > 0 {
		batch := w.queue
		w.queue, w.queued = w.spare[:0], 0
		failed := w.failed
		w.mu.Unlock()
		if failed == nil {
			failed = w.write(batch)
		}
		for i, b := range batch {
			b.release()
			batch[i] = nil
		}
		w.mu.Lock()
		w.spare = batch
		if failed != nil && w.failed == nil {
			w.failed = failed
			w.fail(failed)
		}
	}
	w.sending = false
	w.drained.Broadcast()
	w.mu.Unlock()
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
