package lock

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// A table is what a server knows: which lock is whose, until when, and who
// waits. It does nothing by itself: what happens is told to it together with
// the time, and it says what to send. Before anything is sent that was said
// while unsaved is set, the table must be saved.
type table struct {
	lease   time.Duration
	most    int // locks
	locks   map[string]*entry
	unsaved bool
	due     time.Duration // when expire must be called, or earlier
	out     []letter
}

// A letter is a message to a member; without one the member is to be cut off.
type letter struct {
	to      *member
	message *message
}

// An entry is one lock.
type entry struct {
	generation uint64
	owner      partyID // who got this generation, zero if it lost it
	held       bool
	until      time.Duration // end of the lease
	stored     bool          // it is saved that the owner may hold it
	members    map[partyID]*member
	queue      []*member
}

// A member is a party with a connection.
type member struct {
	link  *link
	party partyID
	entry *entry
	name  string
	seen  time.Duration // the last sign of life
	over  bool          // it was refused
}

// A refusal is an error that the client is told.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

func (t *table) tell(m *member, msg message) {
	if m != nil {
		t.out = append(t.out, letter{m, &msg})
	}
}

func (t *table) cut(m *member) { t.out = append(t.out, letter{m, nil}) }

// hello lets a member in. A party that comes back goes on holding the lock if it
// says that it does, and has unlocked it if not.
func (t *table) hello(m *member, msg message, now time.Duration) error {
	switch {
	case msg.kind != msgHello:
		return fmt.Errorf("%w: the first message is of kind %#x", errProtocol, byte(msg.kind))
	case msg.version < 1:
		return &refusal{fmt.Sprintf("protocol version %d is unknown, expected %d", msg.version, wireVersion)}
	case msg.text == "":
		return &refusal{"the name of the lock is empty"}
	case msg.party == partyID{}:
		return &refusal{"the identity is zero"}
	}
	e := t.locks[msg.text]
	if e == nil {
		if len(t.locks) >= t.most {
			return &refusal{fmt.Sprintf("there are %d locks already, no more are allowed", t.most)}
		}
		e = &entry{members: map[partyID]*member{}}
		t.locks[msg.text] = e
	}
	if old := e.members[msg.party]; old != nil {
		t.gone(old)
		t.cut(old)
		t.locks[msg.text] = e
	}
	m.party, m.entry, m.name, m.seen = msg.party, e, msg.text, now
	e.members[m.party] = m

	welcome := message{kind: msgWelcome, version: wireVersion, lease: t.lease}
	back := e.held && e.owner == m.party
	if back && msg.generation != 0 {
		e.until = max(e.until, now+t.lease)
		welcome.generation = e.generation
	}
	t.tell(m, welcome)
	if back && msg.generation == 0 {
		t.free(e, now)
	} else if back {
		t.tell(m, message{kind: msgContended, contended: len(e.queue) > 0})
	}
	return nil
}

// receive does what a member wants.
func (t *table) receive(m *member, msg message, now time.Duration) error {
	e := m.entry
	if e.members[m.party] != m {
		return nil // it was cut off
	}
	m.seen = now
	holds := e.held && e.owner == m.party
	switch msg.kind {
	case msgTake:
		switch {
		case holds || slices.Contains(e.queue, m):
		case e.held:
			e.queue = append(e.queue, m)
			t.due = min(t.due, now+t.lease)
			t.contended(e, 1)
		default:
			t.grant(m, now)
		}
	case msgCancel:
		t.leave(m)
	case msgRelease:
		if holds && msg.generation == e.generation {
			t.free(e, now)
		}
	case msgRenew:
		renewed := message{kind: msgRenewed}
		if holds {
			e.until = max(e.until, now+t.lease)
			renewed.generation = e.generation
		}
		t.tell(m, renewed)
	case msgRaise:
		switch {
		case !holds || msg.generation != e.generation:
		case msg.above >= maxGeneration:
			return errors.New("a generation that does not exist")
		case e.generation <= msg.above:
			e.generation = msg.above + 1
			t.unsaved = true
			fallthrough
		default:
			t.tell(m, message{kind: msgRaised, generation: e.generation})
		}
	default:
		return fmt.Errorf("%w: a message of kind %#x", errProtocol, byte(msg.kind))
	}
	return nil
}

// contended tells the holder if so many wait, which is news when the queue
// grows to one or shrinks to none.
func (t *table) contended(e *entry, news int) {
	if e.held && len(e.queue) == news {
		t.tell(e.members[e.owner], message{kind: msgContended, contended: news > 0})
	}
}

// leave makes the member wait no more.
func (t *table) leave(m *member) {
	if i := slices.Index(m.entry.queue, m); i >= 0 {
		m.entry.queue = slices.Delete(m.entry.queue, i, i+1)
		t.contended(m.entry, 0)
	}
}

// gone forgets a member whose connection has ended. If it holds the lock its
// lease goes on.
func (t *table) gone(m *member) {
	e := m.entry
	if e == nil || e.members[m.party] != m {
		return
	}
	t.leave(m)
	delete(e.members, m.party)
	if e.generation == 0 && len(e.members) == 0 {
		delete(t.locks, m.name) // nobody ever had it
	}
}

// grant gives the lock, which is free, to the member.
func (t *table) grant(m *member, now time.Duration) {
	e := m.entry
	if e.owner != m.party {
		e.generation++
		e.owner = m.party
		e.stored = false
	}
	if !e.stored {
		e.stored = true
		t.unsaved = true
	}
	e.held, e.until = true, now+t.lease
	t.due = min(t.due, e.until)
	t.tell(m, message{kind: msgGranted, generation: e.generation, contended: len(e.queue) > 0})
}

// free ends a hold, and gives the lock to the next who waits.
func (t *table) free(e *entry, now time.Duration) {
	e.held = false
	if len(e.queue) > 0 {
		m := e.queue[0]
		e.queue = slices.Delete(e.queue, 0, 1)
		t.grant(m, now)
	}
}

// expire ends leases and cuts off those who wait and have not been heard of for
// a lease.
func (t *table) expire(now time.Duration) {
	if now < t.due {
		return
	}
	t.due = math.MaxInt64
	for _, name := range slices.Sorted(maps.Keys(t.locks)) {
		e := t.locks[name]
		for _, m := range slices.Clone(e.queue) {
			if now-m.seen >= t.lease {
				t.gone(m)
				t.cut(m)
			} else {
				t.due = min(t.due, m.seen+t.lease)
			}
		}
		if e.held && e.until <= now {
			t.tell(e.members[e.owner], message{kind: msgLost, generation: e.generation})
			e.owner = partyID{}
			t.free(e, now)
		}
		if e.held {
			t.due = min(t.due, e.until)
		}
	}
}
