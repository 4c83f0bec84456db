package memory

import (
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

type lease struct {
	ttl  time.Duration
	ends time.Duration // by the server's clock
	keys map[string]bool
}

func noLease(id coord.LeaseID) error { return fmt.Errorf("%w: %d", coord.ErrNoLease, id) }

type granted struct {
	id  coord.LeaseID
	ttl time.Duration
}

func (s *Server) grant(ttl time.Duration) granted {
	s.lock()
	defer s.mu.Unlock()
	s.lastLease++
	id := s.lastLease
	s.leases[id] = &lease{ttl: ttl, ends: s.o.Clock.Now() + ttl, keys: map[string]bool{}}
	s.watchLease(id, ttl)
	return granted{id, ttl}
}

// watchLease looks at the lease when that time has passed, so that it expires
// though nobody asks.
func (s *Server) watchLease(id coord.LeaseID, d time.Duration) {
	s.o.Clock.AfterFunc(d, func() {
		s.lock()
		defer s.mu.Unlock()
		if l := s.leases[id]; l != nil {
			s.watchLease(id, l.ends-s.o.Clock.Now())
		}
	})
}

func (s *Server) renew(id coord.LeaseID) (time.Duration, error) {
	s.lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return 0, noLease(id)
	}
	l.ends = s.o.Clock.Now() + l.ttl
	return l.ttl, nil
}

// Expire ends a lease as if its time had passed, and tells whether there was one.
func (s *Server) Expire(id coord.LeaseID) bool {
	s.lock()
	defer s.mu.Unlock()
	return s.end(id)
}

// expireDue ends the leases whose time has passed.
func (s *Server) expireDue() {
	now := s.o.Clock.Now()
	var due []coord.LeaseID
	for id, l := range s.leases {
		if now >= l.ends {
			due = append(due, id)
		}
	}
	slices.Sort(due) // simulations can be repeated
	for _, id := range due {
		s.end(id)
	}
}

// end ends a lease and deletes its entries.
func (s *Server) end(id coord.LeaseID) bool {
	l := s.leases[id]
	if l == nil {
		return false
	}
	delete(s.leases, id)
	var events []coord.Event
	for key := range l.keys {
		events = append(events, coord.Event{Entry: coord.Entry{Key: key}, Deleted: true})
	}
	s.change(events)
	return true
}

// detach takes an entry that is replaced or deleted from its lease.
func (s *Server) detach(e coord.Entry) {
	if l := s.leases[e.Lease]; l != nil {
		delete(l.keys, e.Key)
	}
}
