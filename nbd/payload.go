package nbd

import (
	"errors"

	"github.com/strata-storage/strata/block"
)

// minPiece is how much of a long payload must have come before it is worth a
// write, and pageSize what a piece that is not the last ends on: a device with
// a page cache need not read anything for it.
const (
	minPiece = 16 << 10
	pageSize = 4096
)

// canStream reports whether the payload of r is written as it comes. The
// pieces stay in the processor's cache between socket and device, and no
// client gains anything by announcing a long payload and not sending it.
func (t *transmission) canStream(r *request) bool {
	return r.cmd == cmdWrite && r.payload > inlineWrite && r.flags&cmdFlagFUA == 0 &&
		t.session.info.NoWait && t.session.info.MinBlock <= pageSize
}

// streamWrite writes what has come of the payload of stream. It returns false
// if more must come first.
func (t *transmission) streamWrite() (bool, error) {
	r := t.stream
	off := int64(r.off) + int64(r.done)
	n := min(t.to-t.from, r.remaining(), pieceSize)
	if n < r.remaining() {
		if n < minPiece {
			return false, nil
		}
		n -= int((off + int64(n)) % pageSize)
	}
	err := r.writeNow(t.in.mem[t.from:t.from+n], off)
	switch {
	case errors.Is(err, block.ErrWouldBlock):
		t.stream = nil
		return true, t.collect(r)
	case err != nil:
		t.stream = nil
		t.failAfterPayload(r, err)
		return true, nil
	}
	t.from += n
	t.moved += n
	if r.done += n; r.remaining() == 0 {
		t.stream = nil
		t.answer(r, nil)
	}
	return true, nil
}

// collect gives r a buffer for what remains of its payload, and r to a worker
// when the buffer is full.
func (t *transmission) collect(r *request) error {
	n := r.remaining()
	if r.payload == 0 {
		return t.start(r)
	}
	if r.data = t.tryBorrow(n); r.data == nil {
		t.sendReplies()
		b, err := t.borrow(n)
		if err != nil {
			return err
		}
		r.data = b
	}
	t.have = copy(r.data.payload(n), t.in.mem[t.from:t.to])
	t.from += t.have
	t.lone = n > inlineWrite
	if t.have == n {
		return t.start(r)
	}
	t.current = r
	t.sending.begin()
	return nil
}

// failAfterPayload answers r with an error when what remains of its payload
// has passed.
func (t *transmission) failAfterPayload(r *request, err error) {
	rest := r.payload
	if r.cmd == cmdWrite {
		rest -= uint64(r.done)
	}
	have := min(uint64(t.to-t.from), rest)
	t.from += int(have)
	if t.skip = rest - have; t.skip == 0 {
		t.answer(r, err)
		return
	}
	t.failed, t.failure = r, err
}
