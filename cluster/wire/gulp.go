package wire

import (
	"io"
	"net"
	"sync/atomic"
)

// An inlet is the end of a connection at which its reader waits for the partner. It
// lies under TLS, which may have to wait though it has received something: records
// without data give the reader nothing.
type inlet struct {
	net.Conn
	before   func()        // called before each read that may wait
	reading  atomic.Bool   // a read is under way
	received atomic.Uint64 // reads that gave something
}

func (i *inlet) Read(p []byte) (int, error) {
	i.before()
	i.reading.Store(true)
	defer i.reading.Store(false)
	n, err := i.Conn.Read(p)
	if n > 0 {
		i.received.Add(1)
	}
	return n, err
}

const (
	// gulpBuffer is what is read ahead of a connection.
	gulpBuffer = 64 << 10
	// direct is the rest of a payload from which on it is worth a system call of
	// its own to read it straight to where it goes.
	direct = 16 << 10
)

// A gulp reads frames in large pieces. It is for one goroutine; the watchdog looks
// at what is atomic.
type gulp struct {
	src    io.Reader
	buf    []byte
	r, w   int // buf[r:w] is unread
	limits *agreed

	partial atomic.Bool   // something is there of the frame that is being read
	frames  atomic.Uint64 // frames begun
}

func newGulp(src io.Reader, limits *agreed) *gulp {
	return &gulp{src: src, buf: make([]byte, gulpBuffer), limits: limits}
}

// read reads once.
func (g *gulp) read(p []byte, partial bool) (int, error) {
	g.partial.Store(partial)
	for range maxEmptyReads {
		n, err := g.src.Read(p)
		if n > 0 {
			return n, nil // an error will come again
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// maxEmptyReads bounds how often in a row a connection may say that it has nothing,
// and no error either.
const maxEmptyReads = 100

// fill reads until n bytes are there, n being less than the buffer.
func (g *gulp) fill(n int, partial bool) error {
	for g.w-g.r < n {
		if g.r == g.w {
			g.r, g.w = 0, 0
		} else if g.r+n > len(g.buf) {
			g.w = copy(g.buf, g.buf[g.r:g.w])
			g.r = 0
		}
		m, err := g.read(g.buf[g.w:], partial || g.w > g.r)
		if err != nil {
			if err == io.EOF && (partial || g.w > g.r) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		g.w += m
	}
	return nil
}

// next reads the header of the next frame.
func (g *gulp) next(h *header) error {
	if err := g.fill(headerSize, false); err != nil {
		return err
	}
	g.frames.Add(1)
	p := g.buf[g.r : g.r+headerSize]
	g.r += headerSize
	return h.parse(p, g.limits)
}

// into reads all of p.
func (g *gulp) into(p []byte) error {
	for {
		m := copy(p, g.buf[g.r:g.w])
		g.r += m
		if p = p[m:]; len(p) == 0 {
			return nil
		}
		if len(p) < direct {
			if err := g.fill(1, true); err != nil {
				return err
			}
			continue
		}
		m, err := g.read(p, true)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		p = p[m:]
	}
}

// buffered returns the next n bytes if they are there already. They are valid until
// the next call of another method.
func (g *gulp) buffered(n int) []byte {
	if g.w-g.r < n {
		return nil
	}
	p := g.buf[g.r : g.r+n : g.r+n]
	g.r += n
	return p
}

// appendTo reads n bytes behind b.
func (g *gulp) appendTo(b []byte, n int) ([]byte, error) {
	at := len(b)
	if cap(b) < at+n {
		b = append(make([]byte, 0, at+n), b...)
	}
	b = b[:at+n]
	return b, g.into(b[at:])
}

// discard reads n bytes to nowhere.
func (g *gulp) discard(n int) error {
	for n > 0 {
		if g.r == g.w {
			if err := g.fill(1, true); err != nil {
				return err
			}
		}
		k := min(n, g.w-g.r)
		g.r += k
		n -= k
	}
	return nil
}
