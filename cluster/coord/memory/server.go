// Package memory is the agreed state of a cluster in the memory of one process,
// for tests and simulations. [Server] is the state, [Server.Client] makes a
// [coord.Store] over a network that can be told to lose and delay messages.
//
// Nothing in it needs real time: the clocks of the server and of each client can
// be given, and without that the whole of it runs in a bubble of testing/synctest.
package memory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/internal/clock"
)

// Options are the options of a Server. The zero value is sensible.
type Options struct {
	// Clock is that by which leases expire. Nil is that of package time.
	Clock coord.Clock
	// History is how many changes are kept for watches at least. 0 is 10 000.
	History int
	// Quota is how many bytes of keys and values there may be, 0 is no limit.
	Quota int
}

// A Server holds the state. It never fails; networks do.
type Server struct {
	o  Options
	mu sync.Mutex

	revision coord.Revision
	entries  map[string]coord.Entry
	size     int

	// log has the changes after compacted, oldest first.
	log       []coord.Change
	compacted coord.Revision
	changed   chan struct{} // closed and replaced with each change

	leases    map[coord.LeaseID]*lease
	lastLease coord.LeaseID
}

// NewServer returns a state without entries.
func NewServer(o Options) *Server {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	o.History = cmp.Or(o.History, 10_000)
	return &Server{
		o:        o,
		revision: 1,
		entries:  map[string]coord.Entry{},
		changed:  make(chan struct{}),
		leases:   map[coord.LeaseID]*lease{},
	}
}

// lock begins whatever looks at the state or changes it.
func (s *Server) lock() {
	s.mu.Lock()
	s.expireDue()
}

// entry returns the entry of a key for the outside.
func (s *Server) entry(key string) coord.Entry {
	e, ok := s.entries[key]
	if !ok {
		return coord.Entry{Key: key}
	}
	e.Value = slices.Clone(e.Value)
	return e
}

type read struct {
	entries  []coord.Entry
	revision coord.Revision
}

func (s *Server) get(key string) read {
	s.lock()
	defer s.mu.Unlock()
	return read{[]coord.Entry{s.entry(key)}, s.revision}
}

func (s *Server) list(prefix string) read {
	s.lock()
	defer s.mu.Unlock()
	r := read{revision: s.revision}
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		if strings.HasPrefix(key, prefix) {
			r.entries = append(r.entries, s.entry(key))
		}
	}
	return r
}

// txn does a transaction that has been checked and keeps its values.
func (s *Server) txn(t coord.Txn) (coord.Result, error) {
	s.lock()
	defer s.mu.Unlock()
	for _, c := range t.If {
		if s.entries[c.Key].Revision != c.Revision {
			r := coord.Result{Revision: s.revision}
			for _, c := range t.If {
				r.Found = append(r.Found, s.entry(c.Key))
			}
			return r, nil
		}
	}
	if err := s.possible(t.Then); err != nil {
		return coord.Result{}, err
	}
	var events []coord.Event
	for _, op := range t.Then {
		if _, exists := s.entries[op.Key]; exists || !op.Delete {
			events = append(events, coord.Event{
				Entry:   coord.Entry{Key: op.Key, Value: op.Value, Lease: op.Lease},
				Deleted: op.Delete,
			})
		}
	}
	s.change(events)
	return coord.Result{Done: true, Revision: s.revision}, nil
}

// possible says why operations cannot be done.
func (s *Server) possible(ops []coord.Op) error {
	grows := 0
	for _, op := range ops {
		if op.Lease != 0 && s.leases[op.Lease] == nil {
			return noLease(op.Lease)
		}
		if !op.Delete {
			grows += len(op.Key) + len(op.Value)
		}
	}
	if s.o.Quota > 0 && grows > 0 && s.size+grows > s.o.Quota {
		return coord.ErrFull
	}
	return nil
}

// change makes events happen at the next revision.
func (s *Server) change(events []coord.Event) {
	if len(events) == 0 {
		return
	}
	s.revision++
	slices.SortFunc(events, func(a, b coord.Event) int { return strings.Compare(a.Key, b.Key) })
	for i := range events {
		e := &events[i]
		e.Revision = s.revision
		if old, ok := s.entries[e.Key]; ok {
			s.size -= len(old.Key) + len(old.Value)
			s.detach(old)
		}
		if e.Deleted {
			delete(s.entries, e.Key)
			continue
		}
		s.entries[e.Key] = e.Entry
		s.size += len(e.Key) + len(e.Value)
		if e.Lease != 0 {
			s.leases[e.Lease].keys[e.Key] = true
		}
	}
	s.log = append(s.log, coord.Change{Revision: s.revision, Events: events})
	if n := len(s.log) - s.o.History; n > s.o.History {
		s.compacted = s.log[n-1].Revision
		s.log = slices.Clone(s.log[n:])
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Revision is that of the last change.
func (s *Server) Revision() coord.Revision {
	s.lock()
	defer s.mu.Unlock()
	return s.revision
}

// Compact forgets all changes until now: watches that have not seen them end.
func (s *Server) Compact() {
	s.lock()
	defer s.mu.Unlock()
	s.compacted, s.log = s.revision, nil
}

// next returns the first change under prefix after that revision. If there is
// none it returns how far it has looked, and a channel that is closed when there
// is more to look at.
func (s *Server) next(prefix string, after coord.Revision) (found coord.Change, looked coord.Revision, more <-chan struct{}, err error) {
	s.lock()
	defer s.mu.Unlock()
	if after < s.compacted {
		return found, after, nil, coord.ErrCompacted
	}
	from, _ := slices.BinarySearchFunc(s.log, after+1, func(c coord.Change, r coord.Revision) int {
		return cmp.Compare(c.Revision, r)
	})
	for _, c := range s.log[from:] {
		for _, e := range c.Events {
			if strings.HasPrefix(e.Key, prefix) {
				e.Value = slices.Clone(e.Value)
				found.Events = append(found.Events, e)
			}
		}
		if len(found.Events) > 0 {
			found.Revision = c.Revision
			return found, c.Revision, nil, nil
		}
	}
	return found, max(after, s.revision), s.changed, nil
}
