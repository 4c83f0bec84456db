package wire

import (
	"fmt"
	"time"
)

// Limits bound what a partner can make a node spend, and how long it may take. A
// field that is zero means the default that its comment names.
type Limits struct {
	// Head bounds the structured part of one frame in bytes, up to 1 MiB: 64 KiB.
	Head int
	// Payload bounds the payload of one request, reply or item in bytes, up to
	// 1 GiB: 8 MiB.
	Payload int
	// Requests bounds the requests in flight on one connection, up to 65536: 256.
	Requests int
	// Bytes bounds the heads and payloads of requests in flight on one connection,
	// together with the room for their replies: 64 MiB, or twice Head and Payload.
	Bytes int64
	// Window is how much of a stream may be on its way or wait for who receives
	// it: 256 KiB.
	Window int
	// TotalBytes bounds the memory in which a server holds requests and replies of
	// all connections: 1 GiB, or four times Bytes.
	TotalBytes int64
	// Conns bounds the connections of one session: 8.
	Conns int
	// Sessions bounds the sessions of a server: 1024.
	Sessions int
	// NodeSessions bounds those of one node: 16.
	NodeSessions int
	// Timeout is what a request has whose context has no deadline, and what a
	// stream may stand still: 30 s.
	Timeout time.Duration
	// Hello bounds the time from a connection to the end of the hellos: 5 s.
	Hello time.Duration
	// Silence is after how long a partner that sends nothing at all is taken for
	// dead. Each side pings so often that the other hears it four times in that
	// time: 2 s. A connection is cut when it has not moved for half of it the bytes of a
	// cancelled request, whose caller waits for its buffer.
	Silence time.Duration
	// Frame bounds how long a frame may take from its beginning to its end, and
	// how long a partner may take none of what is sent: 10 s.
	Frame time.Duration
}

const (
	maxHead     = 1 << 20
	maxPayload  = 1 << 30
	maxRequests = 1 << 16
	minWindow   = 4 << 10
)

// WithDefaults returns l with each zero field replaced.
func (l Limits) WithDefaults() Limits {
	set(&l.Head, 64<<10)
	set(&l.Payload, 8<<20)
	set(&l.Requests, 256)
	set(&l.Bytes, max(64<<20, l.minBytes()))
	set(&l.Window, 256<<10)
	set(&l.TotalBytes, max(1<<30, 4*l.Bytes))
	set(&l.Conns, 8)
	set(&l.Sessions, 1024)
	set(&l.NodeSessions, 16)
	set(&l.Timeout, 30*time.Second)
	set(&l.Hello, 5*time.Second)
	set(&l.Silence, 2*time.Second)
	set(&l.Frame, 10*time.Second)
	return l
}

// minBytes is what the largest request takes, so that it can be sent at all.
func (l Limits) minBytes() int64 { return 2 * (int64(l.Head) + int64(l.Payload)) }

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first limit that makes no sense.
func (l Limits) Validate() error {
	l = l.WithDefaults()
	switch {
	case l.Head < minHead || l.Head > maxHead:
		return fmt.Errorf("wire: limit of heads is %d bytes, expected %d to %d", l.Head, minHead, maxHead)
	case l.Payload < 0 || l.Payload > maxPayload:
		return fmt.Errorf("wire: limit of payloads is %d bytes, expected 1 to %d", l.Payload, maxPayload)
	case l.Requests < 0 || l.Requests > maxRequests:
		return fmt.Errorf("wire: limit of requests is %d, expected 1 to %d", l.Requests, maxRequests)
	case l.Bytes < l.minBytes():
		return fmt.Errorf("wire: %d bytes may be in flight, but one request may have %d", l.Bytes, l.minBytes())
	case l.Window < minWindow || l.Window > maxPayload:
		return fmt.Errorf("wire: window of streams is %d bytes, expected %d to %d", l.Window, minWindow, maxPayload)
	case l.TotalBytes < 2*l.Bytes:
		return fmt.Errorf("wire: a server may hold %d bytes, fewer than twice the %d of one connection", l.TotalBytes, l.Bytes)
	case l.Conns < 0 || l.Sessions < 0 || l.NodeSessions < 0:
		return fmt.Errorf("wire: a limit is negative: connections %d, sessions %d, of one node %d", l.Conns, l.Sessions, l.NodeSessions)
	case l.Timeout < 0 || l.Hello < 0 || l.Frame < 0:
		return fmt.Errorf("wire: a time is negative: timeout %v, hello %v, frame %v", l.Timeout, l.Hello, l.Frame)
	case l.Silence < minSilence || l.Silence > maxSilence:
		return fmt.Errorf("wire: silence is %v, expected %v to %v", l.Silence, minSilence, maxSilence)
	}
	return nil
}

const (
	minSilence = 20 * time.Millisecond
	maxSilence = time.Hour
)
