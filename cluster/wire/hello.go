package wire

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// An Identity is who somebody is.
type Identity struct {
	// Cluster is the ID of the cluster.
	Cluster string
	// Node is the ID of the node.
	Node string
	// Incarnation is another one with each start of the process.
	Incarnation string
}

// maxName bounds each part of an Identity.
const maxName = 255

func (i Identity) validate() error {
	for _, p := range []struct{ what, name string }{
		{"cluster", i.Cluster}, {"node", i.Node}, {"incarnation", i.Incarnation},
	} {
		if p.name == "" || len(p.name) > maxName {
			return fmt.Errorf("wire: ID of the %s has %d bytes, expected 1 to %d", p.what, len(p.name), maxName)
		}
	}
	return nil
}

// A SessionID is the name of a session, chosen at random by who begins it.
type SessionID [16]byte

func newSessionID() (id SessionID) {
	rand.Read(id[:]) // never fails
	return id
}

func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// A hello is what both sides say first.
type hello struct {
	minVersion, maxVersion uint8 // of a client; a server says which one it chose
	who                    Identity
	to                     string // the node that is meant; empty from a server
	session                SessionID
	lane                   uint16 // which connection of the session this is
	limits                 agreed
}

// agreed are the limits of a connection: what both sides can do.
type agreed struct {
	head, payload, requests, window int
	bytes                           int64
	silence                         time.Duration // of the other side, which we must not exhaust
}

// told is what l says in a hello.
func (l Limits) told() agreed {
	return agreed{l.Head, l.Payload, l.Requests, l.Window, l.Bytes, l.Silence}
}

// with returns what applies between a and what the partner said.
func (a agreed) with(o agreed) agreed {
	return agreed{
		min(a.head, o.head), min(a.payload, o.payload), min(a.requests, o.requests),
		min(a.window, o.window), min(a.bytes, o.bytes), o.silence,
	}
}

// appendTo encodes h.
func (h *hello) appendTo(b []byte) []byte {
	b = append(b, h.minVersion, h.maxVersion)
	b = append(b, h.session[:]...)
	b = binary.BigEndian.AppendUint16(b, h.lane)
	for _, n := range []int{h.limits.head, h.limits.payload, h.limits.requests, h.limits.window} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(h.limits.bytes))
	b = binary.BigEndian.AppendUint32(b, uint32(h.limits.silence/time.Millisecond))
	for _, s := range []string{h.who.Cluster, h.who.Node, h.who.Incarnation, h.to} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// helloFixed is the length of what comes before the names.
const helloFixed = 2 + 16 + 2 + 4*4 + 8 + 4

// parse decodes h. What follows the names is of later versions, and ignored.
func (h *hello) parse(p []byte) error {
	if len(p) < helloFixed {
		return violation("hello of %d bytes, expected at least %d", len(p), helloFixed)
	}
	h.minVersion, h.maxVersion = p[0], p[1]
	copy(h.session[:], p[2:])
	h.lane = binary.BigEndian.Uint16(p[18:])
	l := &h.limits
	for i, n := range []*int{&l.head, &l.payload, &l.requests, &l.window} {
		*n = int(binary.BigEndian.Uint32(p[20+4*i:]))
	}
	bytes := binary.BigEndian.Uint64(p[36:])
	l.bytes = int64(min(bytes, 1<<62))
	l.silence = time.Duration(binary.BigEndian.Uint32(p[44:])) * time.Millisecond
	p = p[helloFixed:]
	for _, s := range []*string{&h.who.Cluster, &h.who.Node, &h.who.Incarnation, &h.to} {
		if len(p) < 1 || len(p) < 1+int(p[0]) {
			return violation("hello ends in the middle of a name")
		}
		n := 1 + int(p[0])
		*s, p = string(p[1:n]), p[n:]
	}
	return h.check()
}

func (h *hello) check() error {
	l := &h.limits
	switch {
	case l.head < minHead || l.head > maxHead, l.payload < 1 || l.payload > maxPayload,
		l.requests < 1 || l.requests > maxRequests, l.window < minWindow || l.window > maxPayload,
		l.bytes < 2*(int64(l.head)+int64(l.payload)):
		return violation("hello with limits that make no sense: heads %d, payloads %d, requests %d, window %d, bytes %d",
			l.head, l.payload, l.requests, l.window, l.bytes)
	case l.silence < minSilence || l.silence > maxSilence:
		return violation("hello with a silence of %v, expected %v to %v", l.silence, minSilence, maxSilence)
	}
	if err := h.who.validate(); err != nil {
		return violation("hello: %v", err)
	}
	return nil
}
