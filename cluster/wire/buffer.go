package wire

import (
	"math/bits"
	"sync"
)

// A buffer is memory for one payload, of a power of two bytes, so that it begins
// on a page and a disk can use it as it is.
type buffer struct {
	mem   []byte
	class int
}

const (
	minBufferBits = 12
	maxBufferBits = 30
)

// buffers holds the idle buffers, one pool for each power of two.
var buffers [maxBufferBits + 1]sync.Pool

// newBuffer returns a buffer of at least n bytes, with any content.
func newBuffer(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits)
	b, _ := buffers[class].Get().(*buffer)
	if b == nil {
		b = &buffer{mem: make([]byte, 1<<class), class: class}
	}
	return b
}

// release gives b back. Nobody may use it afterwards.
func (b *buffer) release() { buffers[b.class].Put(b) }
