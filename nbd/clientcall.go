package nbd

import (
	"context"
	"sync/atomic"
)

// maxCalls bounds the requests in flight of one client. Further ones wait.
const maxCalls = 1024

// A call is a request on its way through the client. Calls are made once and
// used again and again; their number is also the limit of what is in flight.
type call struct {
	id   uint16
	done chan struct{} // holds one token when err is the result

	// Set by the caller.
	cmd     command
	flags   uint16
	off, n  uint64
	buf     []byte // filled by READ, sent by WRITE
	context string // of BLOCK_STATUS

	err error

	// Guarded by lane.mu.
	lane      *lane
	cookie    uint64
	state     callState
	replied   bool // the reply came while the request was still being sent
	finished  bool // done has its token
	abandoned bool // the caller has left
	busy      bool // the receiver fills buf
	replays   int
	left      chan struct{} // closed when buf is not used any more, if somebody waits for that
	ghost     *ghost
	prev      *call // in lane.flight
	next      *call
	nextOut   *call // in lane.queue

	// Used by the receiver only.
	reply replyState
}

type callState uint8

const (
	callQueued  callState = iota // not on this connection yet
	callSending                  // in the batch that is being sent
	callSent
)

// changes reports whether the request changes the disk.
func (k *call) changes() bool {
	return k.cmd == cmdWrite || k.cmd == cmdWriteZeroes || k.cmd == cmdTrim
}

// callPool hands out calls.
type callPool struct {
	free chan *call
	made atomic.Int32
}

func newCallPool() callPool { return callPool{free: make(chan *call, maxCalls)} }

func (p *callPool) take(ctx context.Context) (*call, error) {
	select {
	case k := <-p.free:
		return k, nil
	default:
	}
	if n := p.made.Add(1); n <= maxCalls {
		return &call{id: uint16(n - 1), done: make(chan struct{}, 1)}, nil
	}
	p.made.Add(-1)
	select {
	case k := <-p.free:
		return k, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// give takes back a call that nobody refers to. There is always room.
func (p *callPool) give(k *call) {
	extents := k.reply.extents[:0]
	if cap(extents) > 4096 {
		extents = nil
	}
	*k = call{id: k.id, done: k.done, reply: replyState{extents: extents, parts: k.reply.parts[:0]}}
	p.free <- k
}

// callList is the calls in flight, in the order in which they were issued.
type callList struct {
	first, last *call
	len         int
}

func (q *callList) push(k *call) {
	k.prev, k.next = q.last, nil
	if q.last == nil {
		q.first = k
	} else {
		q.last.next = k
	}
	q.last = k
	q.len++
}

func (q *callList) remove(k *call) {
	if k.prev == nil {
		q.first = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		q.last = k.prev
	} else {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
	q.len--
}

// callQueue is the calls that wait to be sent.
type callQueue struct{ first, last *call }

func (q *callQueue) push(k *call) {
	k.nextOut = nil
	if q.last == nil {
		q.first = k
	} else {
		q.last.nextOut = k
	}
	q.last = k
}

func (q *callQueue) pop() *call {
	k := q.first
	if k != nil {
		if q.first = k.nextOut; q.first == nil {
			q.last = nil
		}
		k.nextOut = nil
	}
	return k
}

func (q *callQueue) remove(k *call) {
	all := *q
	*q = callQueue{}
	for o := all.pop(); o != nil; o = all.pop() {
		if o != k {
			q.push(o)
		}
	}
}
