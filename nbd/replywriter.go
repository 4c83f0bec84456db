package nbd

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
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
	queued  int // bytes in queue
	sending bool
	failed  error

	vec   net.Buffers
	iov   [][]byte
	round atomic.Uint64 // odd while a system call is under way
}

// maxQueued is how many bytes of replies may wait before the reader of
// requests has to wait as well.
const maxQueued = 1 << 20

func (w *replyWriter) init(conn net.Conn, record *recordConn, fail func(error)) {
	w.conn, w.record, w.fail = conn, record, fail
	w.drained.L = &w.mu
}

// send queues b, which belongs to the writer from now on, and sends the queue
// if nobody does.
func (w *replyWriter) send(b *buffer) {
	w.mu.Lock()
	w.queue = append(w.queue, b)
	w.queued += b.end - b.start
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

// waitBelow waits until at most n bytes wait in the queue; with n < 0, until
// everything has been sent. It returns the error that broke the connection.
func (w *replyWriter) waitBelow(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.failed == nil && w.sending && (n < 0 || w.queued > n) {
		w.drained.Wait()
	}
	return w.failed
}

// watch breaks the connection when one write takes longer than limit, within
// one more limit. stop ends that.
func (w *replyWriter) watch(limit time.Duration) (stop func() bool) {
	var timer *time.Timer
	var seen uint64
	started := make(chan struct{})
	timer = time.AfterFunc(limit, func() {
		<-started
		round := w.round.Load()
		if round%2 == 1 && round == seen {
			w.fail(fmt.Errorf("client takes no replies for %v: %w", limit, os.ErrDeadlineExceeded))
			return
		}
		seen = round
		timer.Reset(limit)
	})
	close(started)
	return timer.Stop
}

// roundSize bounds what one system call is asked to send. A client that takes
// as much within the limit of watch is slow, not gone.
const roundSize = 1 << 20

// write sends a batch.
func (w *replyWriter) write(batch []*buffer) error {
	if w.record != nil {
		return w.writeRecords(batch)
	}
	size := 0
	for _, b := range batch {
		for p := b.mem[b.start:b.end]; len(p) > 0; {
			n := min(len(p), roundSize-size)
			w.iov = append(w.iov, p[:n])
			p, size = p[n:], size+n
			if size == roundSize {
				if err := w.writeRound(); err != nil {
					return err
				}
				size = 0
			}
		}
	}
	return w.writeRound()
}

// writeRound sends what is in iov.
func (w *replyWriter) writeRound() (err error) {
	w.round.Add(1)
	switch len(w.iov) {
	case 0:
	case 1:
		_, err = w.conn.Write(w.iov[0])
	default:
		w.vec = w.iov
		_, err = w.vec.WriteTo(w.conn)
	}
	w.round.Add(1)
	clear(w.iov)
	w.iov = w.iov[:0]
	return err
}

// writeRecords sends a batch through TLS.
func (w *replyWriter) writeRecords(batch []*buffer) error {
	w.round.Add(1)
	defer w.round.Add(1)
	w.record.collect()
	for _, b := range batch {
		if _, err := w.conn.Write(b.mem[b.start:b.end]); err != nil {
			return err
		}
		w.round.Add(2)
	}
	return w.record.sendCollected()
}
