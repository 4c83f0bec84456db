package nbd

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/internal/socket"
)

// maxBatch bounds the requests that one system call sends.
const maxBatch = 256

// stageSize is the buffer in which small pieces are joined for connections
// that cannot send from many places at once.
const stageSize = 64 << 10

// A wire is one connection that carries requests.
type wire struct {
	nc     net.Conn
	export *ExportInfo
	ids    []contextID
	form   Replies
	in     gulp

	place int          // number of the place where it leads
	heard atomic.Int64 // replies, or parts of them

	// answered: the server has replied to something. Used by the receiver.
	answered bool

	// Of whom has the right to send.
	kick    chan struct{} // hands the right to the sender; holds one
	batch   []*call
	heads   []byte
	pending bool // the batch is encoded and not sent completely
	vector  *socket.Vector
	stage   []byte

	failing sync.Once
	cause   error // why the connection was closed; valid after failing
}

func newWire(h *handshake) *wire {
	return &wire{
		nc:     h.nc,
		export: &h.export,
		ids:    h.ids,
		form:   h.export.Replies,
		in:     gulp{nc: h.nc, buf: make([]byte, gulpBuffer)},
		kick:   make(chan struct{}, 1),
		batch:  make([]*call, 0, maxBatch),
		heads:  make([]byte, 0, maxBatch*extendedRequestSize),
		vector: socket.NewVector(h.nc),
	}
}

// fail closes the connection, for the reason that is given first.
func (w *wire) fail(cause error) {
	w.failing.Do(func() {
		w.cause = cause
		w.nc.Close()
	})
}

// sendLoop sends what those who issue requests leave to it, because it may
// wait.
func (l *lane) sendLoop(w *wire) {
	for range w.kick {
		l.pump(w, true)
	}
}

// pump sends what is queued. The caller has the right to send, and gives it
// up or away. Without wait it sends one batch at most.
func (l *lane) pump(w *wire, wait bool) {
	for {
		if !w.pending {
			l.mu.Lock()
			if !l.fetch(w) {
				l.stopSending()
				l.mu.Unlock()
				return
			}
			l.mu.Unlock()
			w.encode()
		}
		sent, err := w.flush(wait)
		if err == nil && !sent {
			w.kick <- struct{}{}
			return
		}
		l.mu.Lock()
		l.retire(w)
		if err != nil {
			l.stopSending()
			l.mu.Unlock()
			w.fail(err)
			return
		}
		more := l.queue.first != nil
		if !more {
			l.stopSending()
		}
		l.mu.Unlock()
		if !more {
			return
		}
		if !wait {
			w.kick <- struct{}{}
			return
		}
	}
}

func (l *lane) stopSending() {
	l.sending = false
	l.idle.Broadcast()
}

// fetch makes a batch of what is queued. The caller holds mu.
func (l *lane) fetch(w *wire) bool {
	if l.wire != w {
		return false
	}
	for len(w.batch) < maxBatch {
		k := l.queue.pop()
		if k == nil {
			break
		}
		k.state = callSending
		w.batch = append(w.batch, k)
	}
	return len(w.batch) > 0
}

// retire ends the sending of a batch. The caller holds mu.
func (l *lane) retire(w *wire) {
	for i, k := range w.batch {
		w.batch[i] = nil
		k.state = callSent
		if k.replied {
			l.finish(k, k.err)
		} else if k.cmd == cmdWrite {
			k.release()
		}
	}
	w.batch = w.batch[:0]
}

// encode writes the headers of a batch.
func (w *wire) encode() {
	w.pending = true
	w.heads = w.heads[:0]
	if w.vector != nil {
		w.vector.Reset()
	}
	from := 0
	for _, k := range w.batch {
		w.heads = w.appendRequest(w.heads, k)
		if k.cmd != cmdWrite || w.vector == nil {
			continue
		}
		w.vector.Add(w.heads[from:])
		w.vector.Add(k.buf)
		from = len(w.heads)
	}
	if w.vector != nil && from < len(w.heads) {
		w.vector.Add(w.heads[from:])
	}
}

func (w *wire) appendRequest(b []byte, k *call) []byte {
	magic, flags := magicRequest, k.flags
	if w.form == ExtendedReplies {
		magic = magicExtendedRequest
		if k.cmd == cmdWrite {
			flags |= cmdFlagPayloadLen
		}
	}
	b = binary.BigEndian.AppendUint32(b, magic)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(k.cmd))
	b = binary.BigEndian.AppendUint64(b, k.cookie)
	b = binary.BigEndian.AppendUint64(b, k.off)
	if w.form == ExtendedReplies {
		return binary.BigEndian.AppendUint64(b, k.n)
	}
	return binary.BigEndian.AppendUint32(b, uint32(k.n))
}

// flush sends the batch, or goes on with it. It reports whether all is sent;
// without wait it may return before.
func (w *wire) flush(wait bool) (bool, error) {
	if w.vector != nil {
		sent, err := w.vector.Send(wait)
		w.pending = !sent && err == nil
		return sent, err
	}
	if !wait {
		return false, nil
	}
	w.pending = false
	return true, w.flushStage()
}

// flushStage joins headers and small payloads, so that TLS makes large
// records of them.
func (w *wire) flushStage() error {
	size := requestSize
	if w.form == ExtendedReplies {
		size = extendedRequestSize
	}
	w.stage = w.stage[:0]
	heads := w.heads
	for _, k := range w.batch {
		if err := w.put(heads[:size]); err != nil {
			return err
		}
		heads = heads[size:]
		if k.cmd != cmdWrite {
			continue
		}
		if err := w.put(k.buf); err != nil {
			return err
		}
	}
	return w.unstage()
}

func (w *wire) put(p []byte) error {
	if len(w.stage)+len(p) > stageSize {
		if err := w.unstage(); err != nil {
			return err
		}
	}
	if len(p) > stageSize {
		_, err := w.nc.Write(p)
		return err
	}
	if w.stage == nil {
		w.stage = make([]byte, 0, stageSize)
	}
	w.stage = append(w.stage, p...)
	return nil
}

func (w *wire) unstage() error {
	if len(w.stage) == 0 {
		return nil
	}
	_, err := w.nc.Write(w.stage)
	w.stage = w.stage[:0]
	return err
}

// goodbyeTime is what a server has to take the last request.
const goodbyeTime = 2 * time.Second

// goodbye ends the transmission.
func (w *wire) goodbye() {
	w.nc.SetWriteDeadline(time.Now().Add(goodbyeTime))
	w.nc.Write(w.appendRequest(nil, &call{cmd: cmdDisc}))
	w.fail(errGoodbye)
}
