package nbd

import (
	"errors"

	"github.com/strata-storage/strata/block"
)

// inline handles r in the reader's goroutine if the device can do that without
// blocking. It returns false if what is left of r is for a worker.
func (t *transmission) inline(r *request, body []byte) bool {
	if !t.session.info.NoWait {
		return false
	}
	switch r.cmd {
	case cmdRead:
		return t.inlineRead(r)
	case cmdWrite:
		return r.flags&cmdFlagFUA == 0 && t.inlineWrite(r, body)
	}
	return false
}

func (t *transmission) inlineWrite(r *request, body []byte) bool {
	err := r.writeNow(body, int64(r.off))
	if errors.Is(err, block.ErrWouldBlock) {
		return false
	}
	t.answer(r, err)
	return true
}

// inlineRead reads straight into the replies that are about to be sent, piece
// by piece if the client understands that.
func (t *transmission) inlineRead(r *request) bool {
	n := int(r.length)
	if n >= minSendFile && t.sender != nil && t.sender.CanSend(int64(r.off), n) {
		t.sendFile(r, n)
		return true
	}
	if n > pieceSize && !r.divisible() {
		return false
	}
	for {
		piece := min(n-r.done, pieceSize)
		t.room(maxReadHead + piece)
		if t.broken != nil {
			return true
		}
		out := t.out.mem[:t.out.end]
		head := r.appendReadHead(out, piece)
		data := head[len(head) : len(head)+piece]
		err := r.readNow(data, int64(r.off)+int64(r.done))
		switch {
		case errors.Is(err, block.ErrWouldBlock):
			if r.done > 0 {
				t.sendReplies() // before the worker sends the last chunk
			}
			return false
		case err != nil:
			t.answer(r, err)
			return true
		case r.divisible() && block.IsZero(data):
			t.out.end = len(r.appendHole(out, piece))
		default:
			t.out.end = len(head) + piece
		}
		t.moved += piece
		if r.done += piece; r.done == n {
			r.answered()
			t.unsent++
			t.idle.Put(r)
			return true
		}
	}
}

// readNow and writeNow use the device in the reader's goroutine.

func (r *request) readNow(p []byte, off int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = r.panicked(p)
		}
	}()
	return r.t.session.device.ReadAt(r.t.ctx, p, off, block.NoWait)
}

func (r *request) writeNow(p []byte, off int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = r.panicked(p)
		}
	}()
	return r.t.session.device.WriteAt(r.t.ctx, p, off, block.NoWait)
}

// divisible reports whether the reply to a READ may come in several chunks,
// holes among them. A READ of nothing has no chunk that could carry data.
func (r *request) divisible() bool {
	return r.t.session.structured && r.flags&cmdFlagDF == 0
}
