package nbd

import (
	"math/bits"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A buffer holds the payload of one request, or replies on their way to the
// socket. Payloads start on a page, so that a device with direct I/O can use
// them as they are; the room in front of them is for the reply's header, so
// that header and payload leave in one piece.
type buffer struct {
	mem   []byte
	class int
	// start and end bound what is to be sent.
	start, end int
	// file, if not nil, sends fileLen bytes at fileOff after those.
	file    block.FileSender
	fileOff int64
	fileLen int
	// lender has lent charge bytes for this buffer.
	lender *transmission
	charge int64
}

// payloadStart is where payloads lie in a buffer.
const payloadStart = 4096

const (
	minBufferBits = 12
	maxBufferBits = 30
)

// buffers holds the idle buffers, one pool for each power of two.
var buffers [maxBufferBits + 1]sync.Pool

// bufferClass is the class of a buffer for n bytes of payload, and bufferSize
// the memory of one of a class.
func bufferClass(n int) int { return max(bits.Len(uint(max(n, 1)-1)), minBufferBits) }

func bufferSize(class int) int { return payloadStart + 1<<class }

// newBuffer returns a buffer for n bytes of payload, with any content.
func newBuffer(n int) *buffer {
	class := bufferClass(n)
	b, _ := buffers[class].Get().(*buffer)
	if b == nil {
		b = &buffer{mem: make([]byte, bufferSize(class)), class: class}
	}
	b.start, b.end = payloadStart, payloadStart
	return b
}

// payload returns the first n bytes of the payload.
func (b *buffer) payload(n int) []byte { return b.mem[payloadStart : payloadStart+n] }

// spare is how many bytes can be appended.
func (b *buffer) spare() int { return len(b.mem) - b.end }

// release gives b back. Nobody may use it afterwards.
func (b *buffer) release() {
	if b.lender != nil {
		b.lender.giveBack(b.charge)
		b.lender, b.charge = nil, 0
	}
	b.file = nil
	buffers[b.class].Put(b)
}
