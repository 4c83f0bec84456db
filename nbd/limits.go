package nbd

import (
	"fmt"
	"math/bits"
	"time"
)

// Limits bound what the clients of a server can make it spend. A field that
// is zero means the default that its comment names.
type Limits struct {
	// Handshake bounds the time from the connection to the end of the
	// negotiation, TLS included, in which the Resolver may take longer: 10 s.
	// After a list there is half a second more for each export of it.
	Handshake time.Duration
	// Options bounds the options in one negotiation: 1024. After a list there
	// may be four more for each export of it.
	Options int
	// Payload bounds the data of one request or reply in bytes, a power of
	// two from 64 KiB to 1 GiB: 32 MiB, which clients may take for granted.
	Payload int
	// Requests bounds the requests of one connection that are worked on at
	// the same time: 256.
	Requests int
	// ConnBytes bounds the memory in which one connection holds payloads for
	// longer than a moment, whole buffers counted: 64 MiB, or twice Payload.
	// What is on its way between socket and device without waiting comes on
	// top, less than 2 MiB.
	ConnBytes int64
	// Bytes bounds the sum of that over all connections: 1 GiB, or ConnBytes.
	Bytes int64
	// Stall bounds how long a client may take no replies that wait for it,
	// or send nothing of a payload that it has announced; less than 1 MiB
	// is nothing. Then the connection is closed, within twice the time,
	// since it holds memory that others need: 1 min.
	Stall time.Duration
	// Conns bounds the connections: 20000.
	Conns int
	// ConnsPerAddr bounds the connections from one IP address. Unix sockets
	// are not counted. Default: no bound but Conns.
	ConnsPerAddr int
}

// withDefaults returns l with every zero field replaced.
func (l Limits) withDefaults() Limits {
	set(&l.Handshake, 10*time.Second)
	set(&l.Options, 1024)
	set(&l.Payload, minMaxPayload)
	set(&l.Requests, 256)
	set(&l.ConnBytes, max(64<<20, 2*int64(l.Payload)))
	set(&l.Bytes, max(1<<30, l.ConnBytes))
	set(&l.Stall, time.Minute)
	set(&l.Conns, 20000)
	set(&l.ConnsPerAddr, l.Conns)
	return l
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first limit that makes no sense.
func (l Limits) Validate() error {
	l = l.withDefaults()
	switch {
	case l.Handshake < 0 || l.Stall < 0:
		return fmt.Errorf("nbd: a limit is negative: handshake %v, stall %v", l.Handshake, l.Stall)
	case l.Options < 0 || l.Requests < 0 || l.Conns < 0 || l.ConnsPerAddr < 0:
		return fmt.Errorf("nbd: a limit is negative: options %d, requests %d, conns %d, conns per address %d",
			l.Options, l.Requests, l.Conns, l.ConnsPerAddr)
	case l.Payload < 64<<10 || l.Payload > 1<<30 || bits.OnesCount(uint(l.Payload)) != 1:
		return fmt.Errorf("nbd: payload limit %d is not a power of two from 64 KiB to 1 GiB", l.Payload)
	case l.ConnBytes < int64(l.Payload):
		return fmt.Errorf("nbd: a connection may hold %d bytes, but one request may have %d", l.ConnBytes, l.Payload)
	case l.Bytes < l.ConnBytes:
		return fmt.Errorf("nbd: the server may hold %d bytes, but one connection %d", l.Bytes, l.ConnBytes)
	}
	return nil
}
