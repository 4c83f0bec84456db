package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A Session says of which client a connection is, and the how manieth of it. A client that
// has connected anew, to whichever node, repeats what had no answer, and what is left of
// its older connections must not be carried out afterwards. The zero value is of a client
// that does not say who it is.
type Session struct {
	// Client is a number that nobody else has, drawn at random.
	Client uint64
	// Number is that of the connection, greater each time.
	Number uint64
}

// errOld: the client has a later connection.
var errOld error = &meaning{"the client has connected anew, this is left of an older connection", block.ErrIO}

type sessionKey struct{}

// in lets requests that go to another node say of whom they are.
func (s Session) in(ctx context.Context) context.Context {
	if s == (Session{}) {
		return ctx
	}
	return context.WithValue(ctx, sessionKey{}, s)
}

// sessionLen is what a session takes in the head of a request to another node.
const sessionLen = 16

// appendSession encodes the session of a request.
func appendSession(b []byte, ctx context.Context) []byte {
	s, _ := ctx.Value(sessionKey{}).(Session)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.Client), s.Number)
}

func sessionOf(b []byte) Session {
	return Session{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// maxClients bounds how many clients a fence remembers that do nothing.
const maxClients = 4096

// A fence is where changes of a volume pass, at the node that has attached it: those of
// older connections of a client have ended before the first of a later one begins, and are
// refused from then on.
type fence struct {
	mu      sync.Mutex
	clients map[uint64]*visitor
}

// A visitor is what is under way of a client.
type visitor struct {
	number uint64
	// in are those of the latest connection, old those of earlier ones, and waiting
	// those that have not begun.
	in, old, waiting int
	// over is closed when there are no old ones any more, nil if there are none.
	over chan struct{}
}

// enter lets a change in, which must leave.
func (f *fence) enter(ctx context.Context, s Session) error {
	if s.Client == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.client(s.Client)
	if s.Number > p.number {
		if p.old += p.in; p.old > 0 && p.over == nil {
			p.over = make(chan struct{})
		}
		p.number, p.in = s.Number, 0
	}
	for p.over != nil && s.Number == p.number {
		over := p.over
		p.waiting++
		f.mu.Unlock()
		var err error
		select {
		case <-over:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		f.mu.Lock()
		p.waiting--
		if err != nil {
			return err
		}
	}
	if s.Number < p.number {
		return fmt.Errorf("connection %d of client %016x, which has connection %d: %w", s.Number, s.Client, p.number, errOld)
	}
	p.in++
	return nil
}

// enterNow is enter if that need not wait, nor fails.
func (f *fence) enterNow(s Session) bool {
	if s.Client == 0 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.clients[s.Client]
	if p == nil || s.Number != p.number || p.over != nil {
		return false
	}
	p.in++
	return true
}

// client returns what is known of a client.
func (f *fence) client(id uint64) *visitor {
	p := f.clients[id]
	if p != nil {
		return p
	}
	if f.clients == nil {
		f.clients = map[uint64]*visitor{}
	}
	if len(f.clients) >= maxClients {
		for id, p := range f.clients {
			if p.in+p.old+p.waiting == 0 {
				delete(f.clients, id)
				break
			}
		}
	}
	p = &visitor{}
	f.clients[id] = p
	return p
}

// leave ends a change.
func (f *fence) leave(s Session) {
	if s.Client == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients[s.Client].gone(s.Number)
}

// gone counts one less. The mutex is held.
func (p *visitor) gone(number uint64) {
	if number == p.number {
		p.in--
		return
	}
	if p.old--; p.old == 0 && p.over != nil {
		close(p.over)
		p.over = nil
	}
}
