package cluster

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxDoor is how many are at the door at the same time.
const maxDoor = 16

// A lobby is where those wait who are at the door. Strangers who say nothing must not keep
// members out: when it is full, one of those has to go who have not shown a good token, the
// oldest one of the network that most of them are from.
type lobby struct {
	mu   sync.Mutex
	list []*caller // in the order in which they came
}

// A caller is one who is at the door.
type caller struct {
	conn net.Conn
	from netip.Prefix
	// known: it has shown a good token. pushed: it had to make room.
	known, pushed bool
}

// enter lets somebody in, who may be pushed out later. It returns nil if there is no place, as
// all who are there have shown a token.
func (l *lobby) enter(c net.Conn) *caller {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= maxDoor && !l.push() {
		return nil
	}
	k := &caller{conn: c, from: network(c.RemoteAddr())}
	l.list = append(l.list, k)
	return k
}

// push makes room, if it may.
func (l *lobby) push() bool {
	count := map[netip.Prefix]int{}
	for _, k := range l.list {
		count[k.from]++
	}
	victim := -1
	for i, k := range l.list {
		if !k.known && (victim < 0 || count[k.from] > count[l.list[victim].from]) {
			victim = i
		}
	}
	if victim < 0 {
		return false
	}
	k := l.list[victim]
	k.pushed = true
	k.conn.Close()
	l.list = slices.Delete(l.list, victim, victim+1)
	return true
}

// knows is called when somebody has shown a good token.
func (l *lobby) knows(k *caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.known = true
}

// leave is called when somebody is not at the door any more, and reports whether that one had
// to make room.
func (l *lobby) leave(k *caller) (pushed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(x *caller) bool { return x == k })
	return k.pushed
}

// network is what one stranger may have many addresses of.
func network(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails for other lengths only
	return p
}
