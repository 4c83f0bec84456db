package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	// gulpBuffer is what is read ahead of a connection.
	gulpBuffer = 64 << 10
	// direct is the rest of a payload from which on it is worth a system
	// call of its own to read it straight to where it goes.
	direct = 16 << 10
)

// A gulp reads a connection in large pieces.
type gulp struct {
	nc   net.Conn
	buf  []byte
	r, w int // buf[r:w] is unread
}

// more reads once, after making room.
func (g *gulp) more() error {
	if g.r == g.w {
		g.r, g.w = 0, 0
	} else if g.w == len(g.buf) {
		g.w = copy(g.buf, g.buf[g.r:g.w])
		g.r = 0
	}
	n, err := g.nc.Read(g.buf[g.w:])
	g.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// next returns the next n bytes, n being small. They are valid until the next
// call. A deadline that has passed is of no concern: it was set to interrupt
// a payload that has meanwhile been read.
func (g *gulp) next(n int) ([]byte, error) {
	if err := g.fill(n); err != nil {
		return nil, err
	}
	p := g.buf[g.r : g.r+n]
	g.r += n
	return p, nil
}

func (g *gulp) fill(n int) error {
	for g.w-g.r < n {
		if g.r+n > len(g.buf) {
			g.w = copy(g.buf, g.buf[g.r:g.w])
			g.r = 0
		}
		if err := g.more(); err != nil && !g.resume(err) {
			return err
		}
	}
	return nil
}

// resume reports whether reading may go on after err.
func (g *gulp) resume(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && g.nc.SetReadDeadline(time.Time{}) == nil
}

func (g *gulp) discard(n uint64) error {
	for n > 0 {
		if g.r == g.w {
			if err := g.fill(1); err != nil {
				return err
			}
		}
		k := min(n, uint64(g.w-g.r))
		g.r += int(k)
		n -= k
	}
	return nil
}

// receive takes replies until the connection ends.
func (l *lane) receive(w *wire) error {
	for {
		err := l.receiveOne(w)
		w.heard.Add(1)
		if err != nil {
			if err == io.EOF {
				return errHungUp
			}
			return err
		}
	}
}

func (l *lane) receiveOne(w *wire) error {
	if err := w.in.fill(4); err != nil {
		return err
	}
	magic := binary.BigEndian.Uint32(w.in.buf[w.in.r:])
	switch {
	case magic == magicSimpleReply && w.form != ExtendedReplies:
		return l.simple(w)
	case magic == magicStructuredReply && w.form == StructuredReplies,
		magic == magicExtendedReply && w.form == ExtendedReplies:
		return l.chunk(w)
	}
	return violation("%#x in place of the beginning of a reply", magic)
}

// claim finds the request that a reply is for and keeps its buffer from being
// taken away until unclaim or finish. A nil buf means that the caller has
// left, and the payload is of no use.
func (l *lane) claim(cookie uint64) (k *call, wanted bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id := cookie & 0xffff; id < maxCalls {
		k = l.table[id]
	}
	if k == nil || k.cookie != cookie || k.state == callQueued || k.replied {
		return nil, false, violation("reply with cookie %#x, which no request in flight has", cookie)
	}
	k.busy = !k.abandoned
	return k, k.busy, nil
}

func (l *lane) unclaim(w *wire, k *call) {
	l.mu.Lock()
	w.calm(k)
	k.release()
	l.mu.Unlock()
}

// calm takes back the interruption that somebody who waits for k has caused.
// The caller holds lane.mu.
func (w *wire) calm(k *call) {
	if k.left != nil && k.cmd == cmdRead {
		w.nc.SetReadDeadline(time.Time{})
	}
}

// conclude finishes k.
func (l *lane) conclude(w *wire, k *call, err error) {
	l.mu.Lock()
	w.calm(k)
	w.answered = true
	l.finish(k, err)
	l.mu.Unlock()
}

// refuse finishes k with the error of the server, unless the reason is that
// the server is going away: then the request waits for the next one.
func (l *lane) refuse(w *wire, k *call, e *replyError) error {
	if e.code == wireESHUTDOWN && !l.c.target.Reconnect.Off {
		return errShuttingDown
	}
	l.conclude(w, k, e)
	return nil
}

var errShuttingDown = errors.New("the server is shutting down")

func (l *lane) simple(w *wire) error {
	p, err := w.in.next(simpleReplySize)
	if err != nil {
		return err
	}
	code := binary.BigEndian.Uint32(p[4:])
	k, wanted, err := l.claim(binary.BigEndian.Uint64(p[8:]))
	if err != nil {
		return err
	}
	switch {
	case code != 0:
		// An error has no payload. Some servers send it in this form where
		// a chunk is demanded, which does no harm.
		return l.refuse(w, k, &replyError{cmd: k.cmd, off: k.off, n: k.n, code: code})
	case k.cmd == cmdBlockStatus:
		return violation("simple reply to BLOCK_STATUS")
	case k.cmd == cmdRead && w.form != SimpleReplies:
		return violation("simple reply to READ after structured replies were agreed on")
	case k.reply.failure != nil || len(k.reply.parts) != 0:
		return violation("simple reply after chunks")
	case k.cmd == cmdRead:
		if err := l.readInto(w, k, wanted, 0, k.n); err != nil {
			return err
		}
	}
	l.conclude(w, k, nil)
	return nil
}

// readInto reads n bytes of payload to k.buf[at:], or to nowhere if the caller
// has left or leaves while they are read.
func (l *lane) readInto(w *wire, k *call, wanted bool, at, n uint64) error {
	if !wanted {
		return w.in.discard(n)
	}
	p := k.buf[at : at+n]
	for {
		m := copy(p, w.in.buf[w.in.r:w.in.w])
		w.in.r += m
		if p = p[m:]; len(p) == 0 {
			return nil
		}
		var err error
		if len(p) >= direct {
			m, err = w.nc.Read(p)
			p = p[m:]
		} else {
			err = w.in.more()
		}
		if err == nil {
			continue
		}
		if len(p) == 0 {
			return nil // the next read gets the error again
		}
		if !w.in.resume(err) {
			return fmt.Errorf("in the middle of a payload: %w", err)
		}
		if l.deserted(k) {
			return w.in.discard(uint64(len(p)))
		}
	}
}

// deserted reports whether the caller of k has left, and lets it go.
func (l *lane) deserted(k *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.abandoned {
		k.release()
	}
	return k.abandoned
}
