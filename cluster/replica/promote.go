package replica

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// promotions are those of joining disks that want to be members. While one transaction is
// under way, the next ones wait, and share one then.
type promotions struct {
	mu      sync.Mutex
	running bool
	waiting []*promotion
}

// A promotion is of one group.
type promotion struct {
	same coord.Compare
	put  coord.Op
	// ended is closed when result and err are there.
	ended  chan struct{}
	result coord.Result
	err    error
}

// promote makes a joining disk a member, at that epoch only, of which the record is.
func (s *Groups) promote(ctx context.Context, number int, m record.Member, rec record.Group, at coord.Revision) (coord.Revision, error) {
	value, err := json.Marshal(promoted(rec, m))
	if err != nil {
		return 0, err
	}
	key := record.GroupKey(number)
	r, err := s.together(ctx, &promotion{same: coord.IfRevision(key, at), put: coord.Put(key, value), ended: make(chan struct{})})
	if err != nil || r.Done {
		return r.Revision, err
	}
	// This group has changed, or another one of the same transaction.
	return s.step(ctx, number, func(g *record.Group, epoch coord.Revision) (bool, error) {
		if slices.Contains(g.Members, m) {
			return false, nil
		}
		if epoch != at {
			return false, &EpochError{number, epoch}
		}
		*g = promoted(*g, m)
		return true, nil
	})
}

// promoted is a record with a joining disk as a member.
func promoted(g record.Group, m record.Member) record.Group {
	g.Joining = slices.DeleteFunc(slices.Clone(g.Joining), func(o record.Member) bool { return o == m })
	g.Members = append(slices.Clone(g.Members), m)
	return g
}

// together makes a promotion, and in the same transaction those that have waited with it. One
// of those who want something does that for all.
func (s *Groups) together(ctx context.Context, p *promotion) (coord.Result, error) {
	all := &s.promotions
	all.mu.Lock()
	all.waiting = append(all.waiting, p)
	lead := !all.running
	all.running = true
	all.mu.Unlock()
	if lead {
		s.promoteWaiting(ctx)
	}
	select {
	case <-p.ended:
		return p.result, p.err
	case <-ctx.Done():
		return coord.Result{}, context.Cause(ctx)
	}
}

// promoteWaiting makes all promotions that wait.
func (s *Groups) promoteWaiting(ctx context.Context) {
	all := &s.promotions
	for {
		all.mu.Lock()
		some := all.waiting[:min(len(all.waiting), coord.MaxOps)]
		all.waiting = all.waiting[len(some):]
		all.running = len(some) > 0
		all.mu.Unlock()
		if len(some) == 0 {
			return
		}
		var t coord.Txn
		for _, p := range some {
			t.If, t.Then = append(t.If, p.same), append(t.Then, p.put)
		}
		r, err := s.Store.Txn(ctx, t)
		for _, p := range some {
			p.result, p.err = r, err
			close(p.ended)
		}
	}
}
