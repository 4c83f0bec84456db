package wire

import (
	"encoding/binary"
	"fmt"
)

// headerSize is the size of the header of each frame.
//
//	 0  3  magic "SWF"
//	 3  1  version of the protocol
//	 4  1  kind
//	 5  1  flags: 0
//	 6  2  operation of a request, code of a reply
//	 8  8  id of the request
//	16  4  length of the head
//	20  4  length of the payload
//	24  4  time for a request in milliseconds, 0 is no limit, or upper half of the detail of an error
//	28  4  room for the payload of the reply or for items, or lower half of the detail
//
// All numbers are big endian.
const headerSize = 32

// Version is the version of the protocol that is spoken here, and the only one.
const Version = 1

// minHead is what each side takes as a head, as hellos need.
const minHead = 4 << 10

const magic = 'S'<<16 | 'W'<<8 | 'F'

// A kind is what a frame is.
type kind uint8

const (
	kindHello   kind = 1 + iota // client: who I am, and whom I mean
	kindWelcome                 // server: who I am
	kindRefusal                 // server: why not; the connection ends
	kindRequest                 // client: is answered by a reply
	kindStream                  // client: is answered by items and a reply
	kindReply                   // server: the last frame of a request
	kindItem                    // server: an item of a stream
	kindCredit                  // client: room for more items, in bytes
	kindCancel                  // client: the reply is of no use any more
	kindPing                    // both: I am alive
	kindGoodbye                 // server: I begin nothing new
)

// A header is the fixed part of a frame.
type header struct {
	kind    kind
	op      uint16 // or code
	id      uint64
	head    uint32
	payload uint32
	millis  uint32
	room    uint32
}

func (h *header) put(p []byte) {
	binary.BigEndian.PutUint32(p, magic<<8|Version)
	binary.BigEndian.PutUint32(p[4:], uint32(h.kind)<<24|uint32(h.op))
	binary.BigEndian.PutUint64(p[8:], h.id)
	binary.BigEndian.PutUint32(p[16:], h.head)
	binary.BigEndian.PutUint32(p[20:], h.payload)
	binary.BigEndian.PutUint32(p[24:], h.millis)
	binary.BigEndian.PutUint32(p[28:], h.room)
}

// parse reads a header, and checks what can be known without knowing more of
// the connection than its limits.
func (h *header) parse(p []byte, l *agreed) error {
	first := binary.BigEndian.Uint32(p)
	if first != magic<<8|Version {
		return badStart(first)
	}
	second := binary.BigEndian.Uint32(p[4:])
	h.kind, h.op = kind(second>>24), uint16(second)
	h.id = binary.BigEndian.Uint64(p[8:])
	h.head = binary.BigEndian.Uint32(p[16:])
	h.payload = binary.BigEndian.Uint32(p[20:])
	h.millis = binary.BigEndian.Uint32(p[24:])
	h.room = binary.BigEndian.Uint32(p[28:])
	switch {
	case second&0xff0000 != 0:
		return violation("flags %#x of a frame, expected none", second>>16&0xff)
	case h.kind < kindHello || h.kind > kindGoodbye:
		return violation("frame of kind %d, expected %d to %d", h.kind, kindHello, kindGoodbye)
	case h.head > uint32(l.head):
		return violation("head of %d bytes, expected at most %d", h.head, l.head)
	case h.payload > uint32(l.payload):
		return violation("payload of %d bytes, expected at most %d", h.payload, l.payload)
	case h.kind >= kindCredit && (h.head != 0 || h.payload != 0):
		return violation("head and payload of %d and %d bytes in a frame of kind %d, expected none", h.head, h.payload, h.kind)
	}
	return nil
}

func badStart(first uint32) error {
	if first>>8 == magic {
		return violation("frame of protocol version %d, expected %d", first&0xff, Version)
	}
	return violation("%#08x in place of the beginning of a frame", first)
}

func (h *header) detail() uint64 { return uint64(h.millis)<<32 | uint64(h.room) }

// A violation is something that no partner may send.
type violationError struct{ text string }

func (e *violationError) Error() string { return "wire: protocol violation: " + e.text }

// Is makes errors.Is(err, ErrViolation) true.
func (e *violationError) Is(target error) bool { return target == ErrViolation }

func violation(format string, args ...any) error {
	return &violationError{fmt.Sprintf(format, args...)}
}

// A frame is one on its way out.
type frame struct {
	next    *frame
	queued  bool   // guarded by outbox.mu
	small   []byte // header and head
	payload []byte
	owner   sentFrame
}

// A sentFrame is told that its frame is not used any more: it has been sent, or
// the connection is broken.
type sentFrame interface{ frameSent(f *frame, err error) }

// set makes f a frame with h, whose lengths are filled in, and a copy of head.
func (f *frame) set(h header, head, payload []byte) {
	h.head, h.payload = uint32(len(head)), uint32(len(payload))
	if cap(f.small) < headerSize+len(head) {
		f.small = make([]byte, 0, headerSize+max(len(head), 96))
	}
	f.small = f.small[:headerSize]
	h.put(f.small)
	f.small = append(f.small, head...)
	f.payload = payload
}

// forget lets go of what f does not own, and of a head that was unusually large.
func (f *frame) forget() {
	f.payload = nil
	if cap(f.small) > 4096 {
		f.small = nil
	}
}

// size is what f takes on the wire.
func (f *frame) size() int { return len(f.small) + len(f.payload) }

// A frameQueue is frames in order.
type frameQueue struct{ first, last *frame }

func (q *frameQueue) push(f *frame) {
	f.next, f.queued = nil, true
	if q.last == nil {
		q.first = f
	} else {
		q.last.next = f
	}
	q.last = f
}

func (q *frameQueue) pop() *frame {
	f := q.first
	if f != nil {
		if q.first = f.next; q.first == nil {
			q.last = nil
		}
		f.next, f.queued = nil, false
	}
	return f
}

// remove reports whether f was in the queue.
func (q *frameQueue) remove(f *frame) bool {
	if !f.queued {
		return false
	}
	all := *q
	*q = frameQueue{}
	for o := all.pop(); o != nil; o = all.pop() {
		if o != f {
			q.push(o)
		}
	}
	return true
}
