package lock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// The protocol between Dial and Server, version 1. docs/locking.md describes it.

const (
	wireMagic   = "stratalk"
	wireVersion = 1
	// maxFrame bounds a frame without its length.
	maxFrame = 512
	// MaxName bounds the name of a lock, in bytes.
	MaxName = 255
)

// A kind of message.
type kind byte

const (
	msgHello   kind = 0x01
	msgTake    kind = 0x02
	msgCancel  kind = 0x03
	msgRelease kind = 0x04
	msgRenew   kind = 0x05
	msgRaise   kind = 0x06

	msgWelcome   kind = 0x81
	msgGranted   kind = 0x82
	msgRenewed   kind = 0x83
	msgRaised    kind = 0x84
	msgContended kind = 0x85
	msgLost      kind = 0x86
	msgRefused   kind = 0x87
)

// A message is one frame; which fields count depends on its kind.
type message struct {
	kind       kind
	version    uint16
	party      partyID
	generation uint64
	above      uint64
	lease      time.Duration // whole milliseconds
	contended  bool
	text       string // a name, or why something is refused
}

// The fields of each kind, in order: m magic, v version, p party, g generation,
// a above, l lease, c contended, t text to the end.
var layouts = map[kind]string{
	msgHello: "mvpgt", msgTake: "", msgCancel: "", msgRelease: "g", msgRenew: "", msgRaise: "ga",
	msgWelcome: "mvlg", msgGranted: "gc", msgRenewed: "g", msgRaised: "g", msgContended: "c", msgLost: "g", msgRefused: "t",
}

// encode returns the frame of m.
func (m message) encode() []byte {
	b := []byte{0, 0, byte(m.kind)}
	for _, field := range layouts[m.kind] {
		switch field {
		case 'm':
			b = append(b, wireMagic...)
		case 'v':
			b = binary.BigEndian.AppendUint16(b, m.version)
		case 'p':
			b = append(b, m.party[:]...)
		case 'g':
			b = binary.BigEndian.AppendUint64(b, m.generation)
		case 'a':
			b = binary.BigEndian.AppendUint64(b, m.above)
		case 'l':
			b = binary.BigEndian.AppendUint32(b, uint32(m.lease/time.Millisecond))
		case 'c':
			b = append(b, 0)
			if m.contended {
				b[len(b)-1] = 1
			}
		case 't':
			b = append(b, m.text[:min(len(m.text), MaxName)]...)
		}
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	return b
}

var (
	errProtocol = errors.New("that is not the lock protocol")
	errMagic    = fmt.Errorf("%w: magic %q expected", errProtocol, wireMagic)
)

// decode reads a frame without its length.
func decode(b []byte) (m message, err error) {
	if len(b) == 0 {
		return m, fmt.Errorf("%w: an empty frame", errProtocol)
	}
	m.kind = kind(b[0])
	layout, ok := layouts[m.kind]
	if !ok {
		return m, fmt.Errorf("%w: a message of the unknown kind %#x", errProtocol, byte(m.kind))
	}
	b = b[1:]
	for _, field := range layout {
		size := map[rune]int{'m': len(wireMagic), 'v': 2, 'p': 16, 'g': 8, 'a': 8, 'l': 4, 'c': 1, 't': len(b)}[field]
		if len(b) < size {
			return m, fmt.Errorf("%w: a message of kind %#x is too short", errProtocol, byte(m.kind))
		}
		v := b[:size]
		b = b[size:]
		switch field {
		case 'm':
			if string(v) != wireMagic {
				return m, errMagic
			}
		case 'v':
			m.version = binary.BigEndian.Uint16(v)
		case 'p':
			m.party = partyID(v)
		case 'g':
			m.generation = binary.BigEndian.Uint64(v)
		case 'a':
			m.above = binary.BigEndian.Uint64(v)
		case 'l':
			m.lease = time.Duration(binary.BigEndian.Uint32(v)) * time.Millisecond
		case 'c':
			if m.contended = v[0] == 1; v[0] > 1 {
				return m, fmt.Errorf("%w: %d is neither 0 nor 1", errProtocol, v[0])
			}
		case 't':
			if m.text = string(v); size > MaxName {
				return m, fmt.Errorf("%w: a text of %d bytes, at most %d are allowed", errProtocol, size, MaxName)
			}
		}
	}
	if len(b) > 0 {
		return m, fmt.Errorf("%w: a message of kind %#x is %d bytes too long", errProtocol, byte(m.kind), len(b))
	}
	return m, nil
}

// receive reads one message.
func receive(r io.Reader) (message, error) {
	var b [2 + maxFrame]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return message{}, err
	}
	n := int(binary.BigEndian.Uint16(b[:]))
	if n > maxFrame {
		return message{}, fmt.Errorf("%w: a frame of %d bytes, at most %d are allowed", errProtocol, n, maxFrame)
	}
	if _, err := io.ReadFull(r, b[2:2+n]); err != nil {
		return message{}, noEOF(err)
	}
	return decode(b[2 : 2+n])
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// linkQueue is how many messages may wait to be sent. A peer that follows the
// protocol never has that many answers to take.
const linkQueue = 32

// A link sends messages without ever waiting for the peer.
type link struct {
	conn net.Conn
	mu   sync.Mutex
	out  chan []byte // nil when there is nothing more to send
	done chan struct{}
}

func newLink(conn net.Conn) *link {
	l := &link{conn: conn, out: make(chan []byte, linkQueue), done: make(chan struct{})}
	go l.write(l.out)
	return l
}

func (l *link) write(out <-chan []byte) {
	defer close(l.done)
	defer l.conn.Close()
	for b := range out {
		if _, err := l.conn.Write(b); err != nil {
			l.finish()
		}
	}
}

// send queues m. A peer that does not take what it is sent loses the connection.
func (l *link) send(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return
	}
	select {
	case l.out <- m.encode():
	default:
		l.end()
		l.conn.Close()
	}
}

// finish closes the connection when all that is queued was sent.
func (l *link) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}

func (l *link) end() {
	if l.out != nil {
		close(l.out)
		l.out = nil
	}
}

// cut closes the connection at once.
func (l *link) cut() {
	l.finish()
	l.conn.Close()
}
