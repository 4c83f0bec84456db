package coordtest

import (
	"context"
	"errors"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// grant makes a lease that nobody keeps alive.
func (s *suite) grant(store coord.Store) (coord.LeaseID, time.Duration) {
	s.Helper()
	id, ttl, err := store.Grant(s.ctx(), s.TTL)
	s.ok(err)
	if ttl < s.TTL {
		s.Fatalf("a time to live of %v was granted, asked for %v", ttl, s.TTL)
	}
	return id, ttl
}

// lease makes one that is kept alive.
func (s *suite) lease(store coord.Store) *coord.Lease {
	s.Helper()
	l, err := coord.NewLease(s.ctx(), store, s.TTL)
	s.ok(err)
	return l
}

// A lease that nobody renews expires with all that is attached to it, as one
// change, and not too early.
func (s *suite) leaseExpires() {
	a, b := s.join(), s.join()
	_, start := s.list(a, "")
	begin := time.Now()
	id, ttl := s.grant(a)
	r := s.txn(a, nil, coord.PutLeased(id, "e/1", []byte("v")), coord.PutLeased(id, "e/2", nil), coord.Put("e/3", nil))
	r2 := s.txn(b, nil, coord.PutLeased(id, "e/4", nil))
	put := s.watch(b, "e/1", start, "e/1")[0].Events[0]
	s.equal("entry", put.Entry, coord.Entry{Key: "e/1", Value: []byte("v"), Revision: r, Lease: id})

	end := s.deleted(b, "e/1", r)
	if took := time.Since(begin); took < ttl {
		s.Errorf("a lease of %v expired after %v", ttl, took)
	}
	all := s.watch(a, "e/", r2, "e/1")
	s.equal("the end of a lease", all, []coord.Change{{Revision: end.Revision, Events: []coord.Event{
		{Entry: coord.Entry{Key: "e/1", Revision: end.Revision}, Deleted: true},
		{Entry: coord.Entry{Key: "e/2", Revision: end.Revision}, Deleted: true},
		{Entry: coord.Entry{Key: "e/4", Revision: end.Revision}, Deleted: true},
	}}})
	s.over(a, id)
}

// over checks that there is no such lease any more.
func (s *suite) over(store coord.Store, id coord.LeaseID) {
	s.Helper()
	if _, err := store.Renew(s.ctx(), id); !errors.Is(err, coord.ErrNoLease) {
		s.Errorf("Renew of a lease that is over: %v", err)
	}
	if _, err := store.Txn(s.ctx(), coord.Txn{Then: []coord.Op{coord.Put("over", nil), coord.PutLeased(id, "e", nil)}}); !errors.Is(err, coord.ErrNoLease) {
		s.Errorf("Txn with a lease that is over: %v", err)
	}
	e, _ := s.get(store, "over")
	s.equal("revision of what was put together with a lease that is over", e.Revision, coord.Revision(0))
	s.ok(store.Revoke(s.ctx(), id))
}

// A lease that is kept alive outlives many that are not.
func (s *suite) leaseKept() {
	a, b := s.join(), s.join()
	l := s.lease(a)
	r := s.txn(a, nil, coord.PutLeased(l.ID(), "kept", nil))
	rounds := 20
	if s.slow {
		rounds = 1
	}
	for range rounds {
		id, _ := s.grant(b)
		s.deleted(b, "not", s.txn(b, nil, coord.PutLeased(id, "not", nil)))
		s.sure(l)
		if left := l.Left(); left >= l.TTL() {
			s.Errorf("%v are left of a lease of %v", left, l.TTL())
		}
	}
	e, _ := s.get(b, "kept")
	s.equal("kept entry", e, coord.Entry{Key: "kept", Value: e.Value, Revision: r, Lease: l.ID()})
	s.ok(l.Revoke(s.ctx()))
}

func (s *suite) leaseRevoked() {
	a, b := s.join(), s.join()
	l := s.lease(a)
	r := s.txn(a, nil, coord.PutLeased(l.ID(), "r/1", nil), coord.PutLeased(l.ID(), "r/2", nil))
	s.ok(l.Revoke(s.ctx()))
	s.equal("events of a revocation", len(s.watch(b, "r/", r, "r/1")[0].Events), 2)
	s.soon("the loss of a revoked lease", l.Lost())
	s.soon("the doubt about a revoked lease", l.Doubt())
	for _, err := range []error{l.Err(), l.Wait(s.ctx())} {
		if !errors.Is(err, coord.ErrLeaseLost) {
			s.Errorf("a revoked lease: %v", err)
		}
	}
	s.equal("left of a revoked lease", l.Left(), time.Duration(0))
	s.ok(l.Revoke(s.ctx()))
	s.over(b, l.ID())

	// Without entries it is no change.
	l = s.lease(a)
	_, before := s.get(a, "r/1")
	s.ok(l.Revoke(s.ctx()))
	s.put(a, "x")
	s.equal("changes", len(s.watch(b, "", before, "x")), 1)

	// Others may revoke it, too.
	l = s.lease(a)
	s.ok(b.Revoke(s.ctx(), l.ID()))
	s.soon("the loss of a lease that another one revoked", l.Lost())
	if err := l.Err(); !errors.Is(err, coord.ErrLeaseLost) || !errors.Is(err, coord.ErrNoLease) {
		s.Errorf("a lease that another one revoked: %v", err)
	}
}

// An entry belongs to the lease of its last put.
func (s *suite) leaseMoves() {
	a := s.join()
	one, two := s.lease(a), s.lease(a)
	s.txn(a, nil, coord.PutLeased(one.ID(), "m/stays", nil), coord.PutLeased(one.ID(), "m/moves", nil), coord.PutLeased(one.ID(), "m/goes", nil), coord.PutLeased(one.ID(), "m/again", nil))
	s.txn(a, nil, coord.Put("m/stays", nil), coord.PutLeased(two.ID(), "m/moves", nil), coord.Delete("m/again"))
	s.txn(a, nil, coord.Put("m/again", nil))
	s.ok(one.Revoke(s.ctx()))
	es, _ := s.list(a, "m/")
	s.equal("number of entries", len(es), 3)
	for i, want := range []coord.LeaseID{0, two.ID(), 0} {
		s.equal("lease of "+es[i].Key, es[i].Lease, want)
	}
	s.ok(two.Revoke(s.ctx()))
	es, _ = s.list(a, "m/")
	s.equal("number of entries", len(es), 2)
}

// sure checks that a lease is sure. Where time is real, the machine may have been
// too slow for that; then it must be sure again soon.
func (s *suite) sure(l *coord.Lease) {
	s.Helper()
	if s.slow {
		s.ok(l.Wait(s.ctx()))
		return
	}
	s.ok(l.Err())
	select {
	case <-l.Doubt():
		s.Error("a lease that is sure is in doubt")
	default:
	}
}

// A lease that cannot be renewed is in doubt before it is over, and sure again
// when it turns out that it is not.
func (s *suite) leaseDoubt() {
	a, b := s.join(), s.join()
	l := s.lease(a)
	r := s.txn(a, nil, coord.PutLeased(l.ID(), "d", nil))
	// From the other side it is renewed all the time, as if by late requests.
	ctx, cancel := context.WithCancel(s.ctx())
	s.work.Go(func() {
		for ctx.Err() == nil {
			if _, err := b.Renew(ctx, l.ID()); err != nil && ctx.Err() == nil {
				s.Errorf("Renew from the other side: %v", err)
			}
			select {
			case <-time.After(s.TTL / 16):
			case <-ctx.Done():
			}
		}
	})
	for _, replies := range []bool{true, false} {
		doubt := l.Doubt()
		s.Cut(a, !replies, replies)
		s.soon("the doubt about a lease", doubt)
		if err := l.Err(); !errors.Is(err, coord.ErrInDoubt) {
			s.Fatalf("a lease in doubt: %v", err)
		}
		s.equal("left of a lease in doubt", l.Left(), time.Duration(0))
		s.Cut(a, false, false)
		s.ok(l.Wait(s.ctx()))
		s.sure(l)
		e, _ := s.get(b, "d")
		s.equal("revision of an entry whose lease was in doubt", e.Revision, r)
	}
	cancel()
	s.ok(l.Revoke(s.ctx()))
	s.deleted(b, "d", r)
}

func (s *suite) leaseLost() {
	a, b := s.join(), s.join()
	l := s.lease(a)
	r := s.txn(a, nil, coord.PutLeased(l.ID(), "l", nil))
	s.Cut(a, true, true)
	ended := make(chan error, 1)
	s.work.Go(func() {
		<-l.Doubt()
		ended <- l.Wait(s.Context())
	})
	s.deleted(b, "l", r)
	if err := l.Err(); !errors.Is(err, coord.ErrInDoubt) {
		s.Fatalf("a lease that expired unheard: %v", err)
	}
	s.Cut(a, false, false)
	s.soon("the loss of a lease", l.Lost())
	for _, err := range []error{l.Err(), <-ended} {
		if !errors.Is(err, coord.ErrLeaseLost) || !errors.Is(err, coord.ErrNoLease) {
			s.Errorf("a lost lease: %v", err)
		}
	}
}
