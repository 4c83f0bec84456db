package nbd

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/strata-storage/strata/block"
)

// handle does what a request asks for, in a goroutine of its own, and answers.
func (r *request) handle() {
	t := r.t
	defer func() {
		if p := recover(); p != nil {
			t.w.send(r.result(r.panicked(p)))
		}
		r.dropData()
		t.idle.Put(r)
		t.count.inFlight.Add(-1)
		<-t.slots
		t.workers.Done()
	}()
	switch r.cmd {
	case cmdRead:
		r.read()
	case cmdBlockStatus:
		r.blockStatus()
	default:
		err := r.change()
		r.dropData() // others may need the memory while the client is slow
		t.w.send(r.result(err))
	}
}

// begin begins a write, if the device can do that without waiting.
func (r *request) begin() bool {
	t := r.t
	return t.starter != nil && r.cmd == cmdWrite &&
		t.starter.StartWrite(t.ctx, r.data.payload(r.remaining()), int64(r.off)+int64(r.done), r.deviceFlags(), &t.burst, r)
}

// Ended is that of block.Ender. It answers.
func (r *request) Ended(err error, b *block.Burst) {
	t := r.t
	r.dropData()
	t.w.leave(r.result(err), b)
	t.idle.Put(r)
	t.count.inFlight.Add(-1)
	<-t.slots
	t.workers.Done()
}

func (r *request) dropData() {
	if r.data != nil {
		r.data.release()
		r.data = nil
	}
}

// panicked is what a client is told of a device that panicked with p, and logs
// the rest. It is called while the stack is still there.
func (r *request) panicked(p any) error {
	r.t.server.log.Error("panic", "export", r.t.session.export.Name, "request", r.String(), "panic", p, "stack", string(debug.Stack()))
	return block.ErrIO
}

// result returns a buffer with the reply to a request that ends with err and
// without data.
func (r *request) result(err error) *buffer {
	b := newBuffer(maxErrorReply)
	b.end = len(r.appendResult(b.mem[:b.start], err))
	return b
}

// change handles the commands that return nothing.
func (r *request) change() error {
	t := r.t
	dev, off, n := t.session.device, int64(r.off), int64(r.length)
	switch r.cmd {
	case cmdWrite:
		return dev.WriteAt(t.ctx, r.data.payload(r.remaining()), off+int64(r.done), r.deviceFlags())
	case cmdWriteZeroes:
		return dev.Zero(t.ctx, off, n, r.deviceFlags())
	case cmdTrim:
		return dev.Trim(t.ctx, off, n, r.deviceFlags())
	case cmdFlush:
		return dev.Flush(t.ctx)
	case cmdCache:
		return r.prefetch(off, n)
	}
	return fmt.Errorf("%v: %w", r.cmd, block.ErrInvalid)
}

// deviceFlags translates the flags of the command.
func (r *request) deviceFlags() block.Flags {
	var f block.Flags
	if r.flags&cmdFlagFUA != 0 {
		f |= block.FUA
	}
	if r.flags&cmdFlagNoHole != 0 {
		f |= block.NoHole
	}
	if r.flags&cmdFlagFastZero != 0 {
		f |= block.FastZero
	}
	return f
}

// prefetch reads a range and forgets it, so that whatever caches there are
// below hold it. Nobody wants that any more when the client has left.
func (r *request) prefetch(off, n int64) error {
	if n == 0 {
		return nil
	}
	b, err := r.t.borrow(int(min(n, r.maxPiece())))
	if err != nil {
		return err
	}
	defer b.release()
	for n > 0 && !r.t.left.Load() {
		k := min(n, r.maxPiece())
		if err := r.t.session.device.ReadAt(r.t.ctx, b.payload(int(k)), off, 0); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// maxPiece is how much is read from the device at once.
func (r *request) maxPiece() int64 {
	return int64(maxPayload(&r.t.session.info, pieceSize))
}

// read answers what is left of a READ, piece by piece if the client
// understands that.
func (r *request) read() {
	t := r.t
	n := int(r.length)
	for {
		piece := n - r.done
		if r.divisible() {
			piece = min(piece, int(r.maxPiece()))
		}
		b, err := t.borrow(piece)
		if err != nil {
			return // the connection is gone
		}
		r.data = b // to be released if the device panics
		data := b.payload(piece)
		err = t.session.device.ReadAt(t.ctx, data, int64(r.off)+int64(r.done), 0)
		r.data = nil
		var head [maxErrorReply]byte
		switch {
		case err != nil:
			b.release()
			t.w.send(r.result(err))
			return
		case r.divisible() && block.IsZero(data):
			b.end = len(r.appendHole(b.mem[:b.start], piece))
		default:
			h := r.appendReadHead(head[:0], piece)
			b.start -= copy(b.mem[payloadStart-len(h):], h)
			b.end = payloadStart + piece
		}
		last := r.done+piece == n
		if r.done += piece; last {
			r.answered()
		}
		t.w.send(b)
		if last {
			return
		}
	}
}

// appendResult appends the reply to a request that ends with err, without
// data, and counts it.
func (r *request) appendResult(b []byte, err error) []byte {
	t := r.t
	if err == nil {
		r.answered()
		return r.appendOK(b)
	}
	t.count.requests.Add(1)
	t.count.errors.Add(1)
	if f, ok := err.(*refusal); ok {
		return r.appendError(b, f.code, f.text)
	}
	level := slog.LevelDebug
	if t.sick.CompareAndSwap(false, true) {
		// One for each connection tells what is going on; a sick disk
		// must not fill the log.
		level = slog.LevelWarn
	}
	t.server.log.Log(t.ctx, level, "request failed", "export", t.session.export.Name, "request", r.String(), "error", err)
	code := wireError(err, r.deviceFlags())
	return r.appendError(b, code, wireText(code))
}

// answered counts a request that has succeeded.
func (r *request) answered() {
	r.t.count.requests.Add(1)
	switch r.cmd {
	case cmdRead:
		r.t.count.read.Add(r.length)
	case cmdWrite:
		r.t.count.written.Add(r.length)
	}
}

func (r *request) String() string {
	return fmt.Sprintf("%v offset=%d length=%d flags=%#x", r.cmd, r.off, r.length, r.flags)
}
