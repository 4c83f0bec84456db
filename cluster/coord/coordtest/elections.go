package coordtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

func (s *suite) elect(l *coord.Lease, key string) *coord.Leadership {
	s.Helper()
	e, err := coord.Elect(s.ctx(), l, key, []byte("me"))
	s.ok(err)
	return e
}

// notLeader checks that a leadership is over.
func (s *suite) notLeader(e *coord.Leadership) {
	s.Helper()
	s.soon("the loss of a leadership", e.Lost())
	if err := e.Err(); !errors.Is(err, coord.ErrNotLeader) {
		s.Errorf("a leadership that is over: %v", err)
	}
}

// One leads, another waits until that one resigns or its lease is over.
func (s *suite) electOne() {
	a, b := s.join(), s.join()
	la, lb := s.lease(a), s.lease(b)
	first := s.elect(la, "e/one")
	s.ok(first.Err())
	e, _ := s.get(b, "e/one")
	s.equal("entry of the leader", e, coord.Entry{Key: "e/one", Value: []byte("me"), Revision: first.Token(), Lease: la.ID()})
	s.txn(a, []coord.Compare{first.If()}, coord.Put("e/work", nil))

	ctx, cancel := context.WithTimeoutCause(s.ctx(), s.TTL/10, errors.New("enough"))
	defer cancel()
	if _, err := coord.Elect(ctx, lb, "e/one", nil); err == nil || errors.Is(err, coord.ErrUnavailable) {
		s.Fatalf("a second leader, or another error than that of the context: %v", err)
	}
	won := make(chan *coord.Leadership, 1)
	s.work.Go(func() {
		defer close(won)
		won <- s.elect(lb, "e/one")
	})
	s.put(a, "e/one/longer", "e/on") // which are other keys
	s.ok(first.Resign(s.ctx()))
	s.notLeader(first)
	s.ok(first.Resign(s.ctx()))
	second := <-won
	if second.Token() <= first.Token() {
		s.Errorf("token %d after %d", second.Token(), first.Token())
	}
	r, err := a.Txn(s.ctx(), coord.Txn{If: []coord.Compare{first.If()}, Then: []coord.Op{coord.Put("e/work", nil)}})
	s.ok(err)
	s.equal("done by an old leader", r.Done, false)
	s.ok(first.Resign(s.ctx())) // which is no business of the second
	e, _ = s.get(a, "e/one")
	s.equal("token of the second leader", e.Revision, second.Token())

	won = make(chan *coord.Leadership, 1)
	s.work.Go(func() {
		defer close(won)
		won <- s.elect(la, "e/one")
	})
	s.ok(lb.Revoke(s.ctx()))
	s.notLeader(second)
	third := <-won
	if third.Token() <= second.Token() {
		s.Errorf("token %d after %d", third.Token(), second.Token())
	}
	s.ok(third.Resign(s.ctx()))
	s.ok(la.Revoke(s.ctx()))
}

// A leader notices when somebody takes the key away, and may win it again.
func (s *suite) electForced() {
	a, b := s.join(), s.join()
	la := s.lease(a)
	last := coord.Revision(0)
	for _, op := range []coord.Op{coord.Delete("e/forced"), coord.Put("e/forced", []byte("mine"))} {
		e := s.elect(la, "e/forced")
		if e.Token() <= last {
			s.Errorf("token %d after %d", e.Token(), last)
		}
		last = e.Token()
		s.txn(b, nil, op)
		s.notLeader(e)
	}
	s.txn(b, nil, coord.Delete("e/forced"))

	// An entry of the own lease is left over from a call that nobody knows the
	// outcome of: it is taken over, with a new token.
	r := s.txn(b, nil, coord.PutLeased(la.ID(), "e/forced", nil))
	e := s.elect(la, "e/forced")
	if e.Token() <= r {
		s.Errorf("token %d after an entry of revision %d", e.Token(), r)
	}
	s.ok(e.Resign(s.ctx()))
	s.ok(la.Revoke(s.ctx()))
}

func (s *suite) electRefused() {
	a, b := s.join(), s.join()
	l := s.lease(a)
	if _, err := coord.Elect(s.ctx(), l, "", nil); !errors.Is(err, coord.ErrInvalid) {
		s.Errorf("Elect without a key: %v", err)
	}
	e := s.elect(l, "e/twice")
	if _, err := coord.Elect(s.ctx(), l, "e/twice", nil); !errors.Is(err, coord.ErrInvalid) {
		s.Errorf("Elect of the leader: %v", err)
	}
	other := s.elect(l, "e/other")
	s.ok(other.Err())

	// Doubt is the end of a leadership, but not of the lease.
	s.Cut(a, true, true)
	s.notLeader(e)
	s.notLeader(other)
	if err := e.Err(); !errors.Is(err, coord.ErrInDoubt) {
		s.Errorf("the end of a leadership by doubt: %v", err)
	}
	_, err := b.Renew(s.ctx(), l.ID())
	s.Cut(a, false, false)
	if err == nil { // where time is real, it may have been over
		s.ok(l.Wait(s.ctx()))
		again := s.elect(l, "e/twice")
		if again.Token() <= e.Token() {
			s.Errorf("token %d after %d", again.Token(), e.Token())
		}
		s.notLeader(e)
	}

	s.ok(l.Revoke(s.ctx()))
	if _, err := coord.Elect(s.ctx(), l, "e/late", nil); !errors.Is(err, coord.ErrLeaseLost) {
		s.Errorf("Elect with a lost lease: %v", err)
	}

	// A lease that is lost while it waits is an error, too.
	l, holder := s.lease(a), s.lease(b)
	s.elect(holder, "e/held")
	failed := make(chan error, 1)
	s.work.Go(func() {
		_, err := coord.Elect(s.ctx(), l, "e/held", nil)
		failed <- err
	})
	s.ok(b.Revoke(s.ctx(), l.ID()))
	if err := <-failed; !errors.Is(err, coord.ErrLeaseLost) {
		s.Errorf("Elect with a lease that is lost meanwhile: %v", err)
	}
	s.ok(holder.Revoke(s.ctx()))
}

// candidates are many that want to lead, while some are cut off.
type candidates struct {
	*suite
	left  atomic.Int64 // guarded writes to do
	stamp atomic.Int64

	mu      sync.Mutex
	elected map[coord.Revision]int64 // stamp after Elect had returned
	sure    map[coord.Revision]int64 // stamp before Err was nil for the last time
}

// There are never two leaders: neither by what the store does for them, nor by
// what they believe.
func (s *suite) electMany() {
	n, writes := 6, int64(300)
	if s.slow {
		n, writes = 3, 10
	}
	judge := s.join()
	_, start := s.list(judge, "")
	s.put(judge, "n/count")
	c := &candidates{suite: s, elected: map[coord.Revision]int64{}, sure: map[coord.Revision]int64{}}
	c.left.Store(writes)
	var running sync.WaitGroup
	for i := range n {
		store := s.join()
		running.Go(func() { c.run(store, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	running.Wait()
	s.put(judge, "n/end")
	c.judge(s.watch(judge, "n/", start, "n/end"))
}

// run stands for election until enough has been written.
func (c *candidates) run(store coord.Store, rnd *rand.Rand) {
	ctx := c.ctx()
	var lease *coord.Lease
	for c.left.Load() > 0 && ctx.Err() == nil {
		if lease == nil || errors.Is(lease.Err(), coord.ErrLeaseLost) {
			var err error
			if lease, err = coord.NewLease(ctx, store, c.TTL); err != nil {
				lease = nil
				continue
			}
		}
		trial, cancel := context.WithTimeout(ctx, 2*c.TTL)
		e, err := coord.Elect(trial, lease, "n/leader", []byte(strconv.FormatInt(int64(lease.ID()), 10)))
		cancel()
		if err != nil {
			continue
		}
		c.mu.Lock()
		c.elected[e.Token()] = c.stamp.Add(1)
		c.mu.Unlock()
		c.lead(ctx, store, e, rnd)
	}
	c.Cut(store, false, false)
	if lease != nil {
		_ = lease.Revoke(ctx)
	}
}

// lead writes for a while, and ends it in one of the ways there are.
func (c *candidates) lead(ctx context.Context, store coord.Store, e *coord.Leadership, rnd *rand.Rand) {
	for range 1 + rnd.IntN(6) {
		c.write(ctx, store, e)
	}
	if rnd.IntN(3) > 0 || c.left.Load() <= 0 {
		_ = e.Resign(ctx)
		return
	}
	// Nobody hears of it any more, or it hears of nobody. It goes on as long as it
	// believes to lead, and then tries all the same.
	c.Cut(store, rnd.IntN(2) == 0, true)
	for e.Err() == nil {
		short, cancel := context.WithTimeout(ctx, c.TTL/10)
		c.write(short, store, e)
		cancel()
	}
	if rnd.IntN(2) == 0 {
		pause := time.NewTimer(c.TTL * time.Duration(1+rnd.IntN(20)) / 10)
		defer pause.Stop()
		<-pause.C
	}
	c.Cut(store, false, false)
	c.write(ctx, store, e)
}

// write adds the token to the count, as the leader.
func (c *candidates) write(ctx context.Context, store coord.Store, e *coord.Leadership) {
	now := c.stamp.Add(1)
	if e.Err() == nil {
		c.mu.Lock()
		c.sure[e.Token()] = now
		c.mu.Unlock()
	}
	count, _, err := store.Get(ctx, "n/count")
	if err != nil {
		return
	}
	r, err := store.Txn(ctx, coord.Txn{
		If:   []coord.Compare{e.If(), coord.IfRevision("n/count", count.Revision)},
		Then: []coord.Op{coord.Put("n/count", []byte(strconv.FormatInt(int64(e.Token()), 10)))},
	})
	if err == nil && r.Done {
		c.left.Add(-1)
	}
}

// judge looks at what happened.
func (c *candidates) judge(all []coord.Change) {
	leader, lastToken := coord.Revision(0), coord.Revision(0)
	for _, change := range all[1:] {
		for _, ev := range change.Events {
			switch {
			case ev.Key == "n/leader" && ev.Deleted:
				leader = 0
			case ev.Key == "n/leader":
				leader = ev.Revision
			case ev.Key == "n/count":
				token, err := strconv.ParseInt(string(ev.Value), 10, 64)
				c.ok(err)
				if coord.Revision(token) != leader || leader < lastToken {
					c.Fatalf("revision %d: written by leader %d, while %d leads and %d was before", ev.Revision, token, leader, lastToken)
				}
				lastToken = leader
			}
		}
	}
	for a, sure := range c.sure {
		for b, elected := range c.elected {
			if a < b && sure >= elected {
				c.Errorf("the leader %d believed to lead when %d had been elected", a, b)
			}
		}
	}
	if len(c.elected) < 2 {
		c.Errorf("%d leaders only", len(c.elected))
	}
}
