package nbd

import (
	"errors"

	"github.com/strata-storage/strata/block"
)

// inline handles r in the reader's goroutine if the device can do that without
// blocking. It returns false if what is left of r is for a worker.
func (t *transmission) inline(r *request, body []byte) (done bool) {
	if !t.session.info.NoWait {
		return false
	}
	defer func() {
		if p := recover(); p != nil {
			r.logPanic(p)
			t.answer(r, block.ErrIO)
			done = true
		}
	}()
	switch r.cmd {
	case cmdRead:
		return t.inlineRead(r)
	case cmdWrite:
		return r.flags&cmdFlagFUA == 0 && t.inlineWrite(r, body)
	}
	return false
}

func (t *transmission) inlineWrite(r *request, body []byte) bool {
	err := t.session.device.WriteAt(t.ctx, body, int64(r.off), block.NoWait)
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
	if n > pieceSize && !r.divisible() {
		return false
	}
	for {
		piece := min(n-r.done, pieceSize)
		t.room(maxReadHead + piece)
		out := t.out.mem[:t.out.end]
		head := r.appendReadHead(out, piece)
		data := head[len(head) : len(head)+piece]
		err := t.session.device.ReadAt(t.ctx, data, int64(r.off)+int64(r.done), block.NoWait)
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
		if r.done += piece; r.done == n {
			r.answered()
			t.idle.Put(r)
			return true
		}
	}
}

// divisible reports whether the reply to a READ may come in several chunks,
// holes among them. A READ of nothing has no chunk that could carry data.
func (r *request) divisible() bool {
	return r.t.session.structured && r.flags&cmdFlagDF == 0
}
