package cluster

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/identity"
)

// from is a connection of an address.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (f *from) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", f.addr)
	return a
}

func (f *from) Close() error {
	f.closed = true
	return nil
}

// Strangers push each other out, and nobody else.
func TestLobby(t *testing.T) {
	t.Parallel()
	var l lobby
	member, late := &from{addr: "10.0.0.7:1"}, &from{addr: "10.0.0.8:1"}
	known := l.enter(&from{addr: "10.0.0.6:1"})
	l.knows(known)
	first := l.enter(member)
	var strangers []*from
	come := func(addr string) *caller {
		s := &from{addr: addr}
		strangers = append(strangers, s)
		return l.enter(s)
	}
	for range 3 * maxDoor {
		come("10.9.9.9:1")
	}
	if member.closed || first.pushed || known.pushed || len(l.list) != maxDoor {
		t.Errorf("a member was pushed out: %v, %v; %d are there", first, known, len(l.list))
	}
	open := 0
	for i, s := range strangers {
		if !s.closed {
			open++
		}
		if want := i < len(strangers)-(maxDoor-2); s.closed != want {
			t.Errorf("stranger %d is closed: %v, expected %v", i, s.closed, want)
		}
	}
	if open != maxDoor-2 {
		t.Errorf("%d strangers are there", open)
	}
	// One who comes later finds a place, and many addresses of one network are one.
	for i := range 3 * maxDoor {
		come("[2001:db8::" + string(rune('a'+i%6)) + "]:1")
	}
	if l.enter(late); late.closed || member.closed {
		t.Error("a member was pushed out")
	}
	if l.leave(first) || len(l.list) != maxDoor-1 {
		t.Errorf("%d are there after one has left", len(l.list))
	}
	for _, k := range l.list {
		l.knows(k)
	}
	l.knows(come("10.0.0.9:1"))
	if k := l.enter(&from{addr: "10.0.0.10:1"}); k != nil {
		t.Error("there is a place though all have shown a token")
	}
}

// Those who say nothing do not keep a node out, nor do they stay.
func TestSilentDoor(t *testing.T) {
	t.Parallel()
	first := start(t, networked(t))
	token, err := first.Token(t.Context(), time.Minute)
	must(t, err)
	var silent []net.Conn
	for range 2 * maxDoor {
		c, err := net.Dial("tcp", first.o.Door)
		must(t, err)
		defer c.Close()
		silent = append(silent, c)
	}
	// Those that had to make room are closed: all before have come.
	if _, err := silent[maxDoor-1].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it was not pushed out: %v", err)
	}
	other := networked(t)
	other.Join, other.Token = first.o.Door, token
	ctx, cancel := context.WithTimeout(t.Context(), doorTime/2)
	defer cancel()
	parsed, err := identity.ParseToken(token)
	must(t, err)
	request, err := identity.NewRequest()
	must(t, err)
	g, err := (&Node{o: other}).ask(ctx, parsed, request)
	if err != nil || g.Node == "" {
		t.Errorf("a node is kept out: %v", err)
	}
}
