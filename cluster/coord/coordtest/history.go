package coordtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// A call is what one client did and what came of it.
type call struct {
	client      int
	begun, over int64     // stamps, which all clients take from one counter
	txn         coord.Txn // of a transaction
	result      coord.Result
	prefix      string // of a read
	read        []coord.Entry
	revision    coord.Revision
	err         error // nobody knows what came of it
}

func (c call) String() string {
	at := fmt.Sprintf("client %d, from %d to %d: ", c.client, c.begun, c.over)
	if c.prefix != "" {
		return at + fmt.Sprintf("read %s: %+v at %d, %v", c.prefix, c.read, c.revision, c.err)
	}
	return at + fmt.Sprintf("%+v: %+v, %v", c.txn, c.result, c.err)
}

// A history is what all clients did, and the leases that may have ended.
type history struct {
	*suite
	seed   uint64
	faults bool
	keys   int
	stamp  atomic.Int64
	mu     sync.Mutex
	calls  []call
	ended  map[coord.LeaseID]bool
}

func (s *suite) histories() {
	n := 10
	if s.slow {
		n = 3
	}
	s.seeds(n, func(seed uint64, rnd *rand.Rand) { s.history(seed, rnd, false) })
}

// The same while the network loses and holds up what it likes.
func (s *suite) historiesFaults() {
	n := 10
	if s.slow {
		n = 2
	}
	s.seeds(n, func(seed uint64, rnd *rand.Rand) { s.history(seed, rnd, true) })
}

// history lets clients do transactions and reads at the same time, and checks
// that they could have been done one after the other, in the order of revisions,
// and that watches saw that.
func (s *suite) history(seed uint64, rnd *rand.Rand, faults bool) {
	h := &history{suite: s, seed: seed, faults: faults, keys: 2 + rnd.IntN(4), ended: map[coord.LeaseID]bool{}}
	judge, watcher := s.join(), s.join()
	prefix := fmt.Sprintf("h%d/", seed)
	start := s.put(judge, "h")
	live := s.watching(watcher, prefix, start, prefix+"end")
	ctx, stop := context.WithCancel(s.ctx())
	var working, breaking sync.WaitGroup
	for i := range 4 {
		store, rnd := s.join(), rand.New(rand.NewPCG(seed, uint64(i+1)))
		working.Go(func() { h.work(store, rnd, i, prefix) })
		if faults {
			breaking.Go(func() { h.hurt(ctx, store, rand.New(rand.NewPCG(seed, uint64(i+100)))) })
		}
	}
	if faults {
		breaking.Go(func() { h.hurt(ctx, watcher, rnd) })
	}
	working.Wait()
	stop()
	breaking.Wait()
	h.settle(judge)
	s.put(judge, prefix+"end")
	truth := s.watch(judge, prefix, start, prefix+"end")
	s.equal("what a watch saw meanwhile", <-live, truth)
	i := rnd.IntN(len(truth))
	if i < len(truth)-1 {
		s.equal("what a watch from the middle saw", s.watch(watcher, prefix, truth[i].Revision, prefix+"end"), truth[i+1:])
	}
	h.check(start, truth)
}

// settle waits until what was under way has arrived.
func (h *history) settle(judge coord.Store) {
	if !h.faults {
		return
	}
	pause := time.NewTimer(h.TTL / 2)
	defer pause.Stop()
	<-pause.C
}

// hurt cuts the network of a client and mends it, until ctx ends.
func (h *history) hurt(ctx context.Context, store coord.Store, rnd *rand.Rand) {
	defer h.Cut(store, false, false)
	for ctx.Err() == nil {
		h.Cut(store, rnd.IntN(3) == 0, rnd.IntN(3) == 0)
		select {
		case <-time.After(time.Duration(rnd.IntN(20)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// work is what one client does.
func (h *history) work(store coord.Store, rnd *rand.Rand, client int, prefix string) {
	n := 100
	if h.slow {
		n = 40
	}
	known := map[string]coord.Revision{} // what was seen last
	var lease coord.LeaseID
	for i := range n {
		ctx, cancel := h.ctx(), context.CancelFunc(func() {})
		if h.faults {
			ctx, cancel = context.WithTimeout(ctx, 15*time.Millisecond)
		}
		switch rnd.IntN(10) {
		case 0, 1:
			h.get(ctx, store, client, h.key(rnd, prefix), known)
		case 2:
			h.list(ctx, store, client, prefix, known)
		case 3:
			lease = h.lease(ctx, store, lease)
		default:
			h.txn(ctx, store, client, h.random(rnd, prefix, known, lease, fmt.Sprintf("%d.%d", client, i)), known)
		}
		cancel()
	}
	if lease != 0 {
		h.lease(h.ctx(), store, lease)
	}
}

func (h *history) key(rnd *rand.Rand, prefix string) string {
	return fmt.Sprintf("%s%d", prefix, rnd.IntN(h.keys))
}

// random makes a transaction. Most compare what they know, so that some are done.
func (h *history) random(rnd *rand.Rand, prefix string, known map[string]coord.Revision, lease coord.LeaseID, id string) coord.Txn {
	var t coord.Txn
	for _, i := range rnd.Perm(h.keys)[:rnd.IntN(min(3, h.keys))] {
		c := coord.IfRevision(fmt.Sprintf("%s%d", prefix, i), 0)
		if rnd.IntN(4) > 0 {
			c.Revision = known[c.Key]
		}
		t.If = append(t.If, c)
	}
	for _, i := range rnd.Perm(h.keys)[:1+rnd.IntN(2)] {
		key := fmt.Sprintf("%s%d", prefix, i)
		switch what := rnd.IntN(5); {
		case what == 0 && len(t.Then) > 0:
			t.Then = append(t.Then, coord.Delete(key)) // never alone: a value tells who did it
		case what == 1:
			t.Then = append(t.Then, coord.PutLeased(lease, key, []byte(id)))
		default:
			t.Then = append(t.Then, coord.Put(key, []byte(id)))
		}
	}
	return t
}

// note ends a call and keeps it. An error must be one that may be.
func (h *history) note(c call) {
	c.over = h.stamp.Add(1)
	if c.err != nil && (!h.faults || !errors.Is(c.err, context.DeadlineExceeded) && !errors.Is(c.err, coord.ErrUnavailable)) {
		h.Errorf("seed %d: %v", h.seed, c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
}

func (h *history) get(ctx context.Context, store coord.Store, client int, key string, known map[string]coord.Revision) {
	c := call{client: client, begun: h.stamp.Add(1), prefix: key}
	e, r, err := store.Get(ctx, key)
	if c.revision, c.err = r, err; err == nil {
		known[key] = e.Revision
		if e.Revision != 0 {
			c.read = []coord.Entry{e}
		}
	}
	h.note(c)
}

func (h *history) list(ctx context.Context, store coord.Store, client int, prefix string, known map[string]coord.Revision) {
	c := call{client: client, begun: h.stamp.Add(1), prefix: prefix}
	c.read, c.revision, c.err = store.List(ctx, prefix)
	if c.err == nil {
		clear(known)
		for _, e := range c.read {
			known[e.Key] = e.Revision
		}
	}
	h.note(c)
}

func (h *history) txn(ctx context.Context, store coord.Store, client int, t coord.Txn, known map[string]coord.Revision) {
	c := call{client: client, begun: h.stamp.Add(1), txn: t}
	c.result, c.err = store.Txn(ctx, t)
	if errors.Is(c.err, coord.ErrNoLease) {
		h.Errorf("seed %d: %v", h.seed, c)
	}
	switch {
	case c.err != nil:
	case c.result.Done:
		for _, op := range t.Then {
			known[op.Key] = c.result.Revision
			if op.Delete {
				known[op.Key] = 0
			}
		}
	default:
		for _, e := range c.result.Found {
			known[e.Key] = e.Revision
		}
	}
	h.note(c)
}

// lease ends a lease, or makes one if there is none.
func (h *history) lease(ctx context.Context, store coord.Store, id coord.LeaseID) coord.LeaseID {
	if id == 0 {
		if id, _, err := store.Grant(ctx, coord.MaxTTL); err == nil {
			return id
		}
		return 0
	}
	h.mu.Lock()
	h.ended[id] = true
	h.mu.Unlock()
	_ = store.Revoke(ctx, id)
	return 0
}
