package voters

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// ErrNotReady: a learner is not far enough for a vote.
var ErrNotReady = errors.New("the learner has not caught up")

// A Cluster are the members and the means to change them. Its methods end soon.
type Cluster interface {
	// Members returns all members, as they were agreed on last.
	Members(ctx context.Context) ([]Member, error)
	// Check returns nil if a member answers and knows a leader.
	Check(ctx context.Context, m Member) error
	// AddLearner adds a member without a vote that listens there.
	AddLearner(ctx context.Context, peerURL string) error
	// Promote gives a learner its vote, or returns ErrNotReady.
	Promote(ctx context.Context, id uint64) error
	// Remove removes a member, learner or voter.
	Remove(ctx context.Context, id uint64) error
}

// Options are the options of Keep. Cluster, Store, Key and Nodes are needed.
type Options struct {
	Cluster Cluster
	Store   coord.Store
	// Key is that of the entry with the Record.
	Key string
	// Nodes returns all nodes, see State, as they are agreed on: one that is missing
	// loses its vote.
	Nodes func(ctx context.Context) ([]Node, error)
	// Every is how often it looks, 0 is 2 s.
	Every time.Duration
	// Grace is after which silence a voter is dead, 0 is 30 s; Patience that for
	// learners, 0 is 5 min.
	Grace, Patience time.Duration
	// Logger is told of each change. Nil is nobody.
	Logger *slog.Logger
}

// A Record is the value of the entry that nodes follow.
type Record struct {
	Members []Member `json:"members"`
}

// ParseRecord returns what an entry says.
func ParseRecord(value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return Record{}, fmt.Errorf("the record of members: %w", err)
	}
	return r, nil
}

// Of returns the member of a node, and false if it is to have none.
func (r Record) Of(n Node) (Member, bool) {
	for _, m := range r.Members {
		if n.has(m) {
			return m, true
		}
	}
	return Member{}, false
}

// Endpoints are the URLs of voters for clients.
func (r Record) Endpoints() (urls []string) {
	for _, m := range r.Members {
		if !m.Learner {
			urls = append(urls, m.ClientURLs...)
		}
	}
	return urls
}

// A keeper is what Keep knows.
type keeper struct {
	Options
	lead  *coord.Leadership
	clock coord.Clock
	since map[uint64]time.Duration // when a member was first found down
	said  string                   // last
}

// Keep looks at the cluster now and then, and makes the changes of Next, until ctx
// ends or the leadership does, and returns why.
func Keep(ctx context.Context, lead *coord.Leadership, o Options) error {
	o.Every, o.Grace, o.Patience = cmp.Or(o.Every, 2*time.Second), cmp.Or(o.Grace, 30*time.Second), cmp.Or(o.Patience, 5*time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	k := &keeper{Options: o, lead: lead, clock: o.Store.Clock(), since: map[uint64]time.Duration{}}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	work.Go(func() {
		select {
		case <-lead.Lost():
			cancel(lead.Err())
		case <-ctx.Done():
		}
	})
	for ctx.Err() == nil {
		changed, err := k.round(ctx)
		if err != nil && ctx.Err() == nil {
			k.Logger.Warn("keeping voters", "error", err)
		}
		if !changed {
			k.pause(ctx)
		}
	}
	return context.Cause(ctx)
}

func (k *keeper) pause(ctx context.Context) {
	coord.Sleep(ctx, k.clock, k.Every)
}

// round makes one change, if there is one to be made. What is published is what the
// members were before: a change is seen at the next round, which follows at once.
func (k *keeper) round(ctx context.Context) (changed bool, err error) {
	members, err := k.Cluster.Members(ctx)
	if err != nil {
		return false, err
	}
	if err := k.publish(ctx, members); err != nil {
		return false, err
	}
	nodes, err := k.Nodes(ctx)
	if err != nil {
		return false, err
	}
	a := Next(State{Nodes: nodes, Members: members, Down: k.down(ctx, members), Grace: k.Grace, Patience: k.Patience})
	if err := k.lead.Err(); err != nil {
		return false, err // others may decide now
	}
	if a.Kind == Nothing {
		k.say(a.Why)
		return false, nil
	}
	return k.act(ctx, a)
}

// say logs why nothing is done, once.
func (k *keeper) say(why string) {
	if why != k.said {
		k.said = why
		k.Logger.Info("voters: " + why)
	}
}

// act carries an action out.
func (k *keeper) act(ctx context.Context, a Action) (changed bool, err error) {
	what, who := "", a.Member.Name
	switch a.Kind {
	case AddLearner:
		what, who = "added a learner", a.Node.Name
		err = k.Cluster.AddLearner(ctx, a.Node.PeerURL)
	case Promote:
		what = "gave the learner a vote"
		err = k.Cluster.Promote(ctx, a.Member.ID)
	case Remove:
		what = "removed the member"
		err = k.Cluster.Remove(ctx, a.Member.ID)
	}
	if errors.Is(err, ErrNotReady) {
		k.say("the learner " + who + " has not caught up yet")
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s %s, because %s: %w", what, who, a.Why, err)
	}
	k.said = ""
	k.Logger.Info("voters: "+what, "member", who, "because", a.Why)
	return true, nil
}

// publish writes the record if it is not that already.
func (k *keeper) publish(ctx context.Context, members []Member) error {
	value, err := json.Marshal(Record{members})
	if err != nil {
		return err
	}
	old, _, err := k.Store.Get(ctx, k.Key)
	if err != nil || bytes.Equal(old.Value, value) {
		return err
	}
	r, err := k.Store.Txn(ctx, coord.Txn{If: []coord.Compare{k.lead.If()}, Then: []coord.Op{coord.Put(k.Key, value)}})
	if err == nil && !r.Done {
		return coord.ErrNotLeader
	}
	return err
}

// down asks all members whether they are well, and returns for how long they have
// not been, at least 1 ns.
func (k *keeper) down(ctx context.Context, members []Member) map[uint64]time.Duration {
	errs := make([]error, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() { errs[i] = k.Cluster.Check(ctx, m) })
	}
	asking.Wait()
	now, since, down := k.clock.Now(), map[uint64]time.Duration{}, map[uint64]time.Duration{}
	for i, m := range members {
		if errs[i] == nil {
			continue
		}
		first, known := k.since[m.ID]
		if !known {
			first = now
			k.Logger.Debug("voters: a member does not answer", "member", m.Name, "error", errs[i])
		}
		since[m.ID], down[m.ID] = first, max(1, now-first)
	}
	k.since = since
	return down
}
