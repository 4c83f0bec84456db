package steward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// Key is the key of the election, its value the ID of the node that leads.
const Key = "leader/steward"

const (
	// settleFor is how long changes of the records are collected before the next
	// plan, and lookEvery how long it takes if there are none: time alone may make
	// something due.
	settleFor = 200 * time.Millisecond
	lookEvery = 2 * time.Second
	// parallel is how many changes are under way at the same time.
	parallel = 16
)

// A Config is what a steward works with.
type Config struct {
	// Store is the agreed state, State the copy of its records that the node
	// follows, and Lease what the node lives by.
	Store coord.Store
	State *record.State
	Lease *coord.Lease
	// Node is the ID of the node.
	Node string
	// Options say how fast it does what.
	Options Options
	// Used says how many bytes of a disk are used, 0 if nobody knows. It may be
	// nil.
	Used func(disk string) int64
	// Full says whether a disk has said that it has no room. It may be nil.
	Full func(disk string) bool
	// Log gets what was changed, and why. Nil is none.
	Log *slog.Logger
}

// A Steward is a node that wants to be the steward, and is one of all that do.
type Steward struct {
	c       Config
	mu      sync.Mutex
	watcher Observer
	planner Planner
}

// New returns a steward that does nothing before Run.
func New(c Config) *Steward {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Steward{c: c, watcher: Observer{Used: c.Used, Full: c.Full, Hold: c.Options.Hold}, planner: Planner{Options: c.Options}}
}

// Status returns how the cluster is, as this node sees it, whether it is the steward
// or not.
func (s *Steward) Status() (*Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.planner.Status(s.watcher.Facts(s.c.State.View(), s.now()))
}

// Run takes part in the election, and does the work of the steward while this node is
// it, until ctx ends or the lease, the copy or the store do. It returns why. All who
// take part watch the nodes, so that the next steward knows for how long one has been
// away. Run must be called once.
func (s *Steward) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	elected := make(chan *coord.Leadership)
	var ended sync.WaitGroup
	defer ended.Wait()
	ended.Go(func() { stop(s.campaign(ctx, elected)) })
	err := s.loop(ctx, elected)
	stop(err)
	return err
}

// campaign offers each leadership that the node gets. It returns an error when there
// can be no other one.
func (s *Steward) campaign(ctx context.Context, elected chan<- *coord.Leadership) error {
	for {
		l, err := coord.Elect(ctx, s.c.Lease, Key, []byte(s.c.Node))
		switch {
		case errors.Is(err, coord.ErrUnavailable):
			s.pause(ctx, lookEvery)
			continue
		case err != nil:
			return fmt.Errorf("electing a steward: %w", err)
		}
		select {
		case elected <- l:
		case <-ctx.Done():
		}
		select {
		case <-l.Lost():
		case <-ctx.Done():
			s.resign(l)
			return context.Cause(ctx)
		}
	}
}

// resign lets another node be the steward at once. If that fails, the end of the lease
// does it.
func (s *Steward) resign(l *coord.Leadership) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer s.c.Store.Clock().AfterFunc(lookEvery, cancel)()
	if err := l.Resign(ctx); err != nil {
		s.c.Log.Debug("the next steward has to wait for the end of the lease", "error", err)
	}
}

// loop looks at what is agreed, and acts while it leads.
func (s *Steward) loop(ctx context.Context, elected <-chan *coord.Leadership) error {
	var lead *coord.Leadership
	done := coord.Revision(0) // what the copy has to show before the next plan
	for {
		v := s.c.State.View()
		switch {
		case lead == nil || v.Revision < done:
			s.see(v)
		case lead.Err() != nil:
			s.c.Log.Info("this node is not the steward any more", "why", lead.Err())
			lead = nil
			continue
		default:
			done = max(done, s.act(ctx, lead, v))
		}
		if err := s.wait(ctx, v, elected, &lead); err != nil {
			return err
		}
	}
}

// see lets the observer look at a view.
func (s *Steward) see(v *record.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watcher.See(v, s.now())
}

func (s *Steward) now() time.Duration { return s.c.Store.Clock().Now() }

// wait waits until there is something to look at.
func (s *Steward) wait(ctx context.Context, v *record.View, elected <-chan *coord.Leadership, lead **coord.Leadership) error {
	s.pause(ctx, settleFor)
	looking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.c.Store.Clock().AfterFunc(lookEvery, cancel)()
	select {
	case l := <-elected:
		s.c.Log.Info("this node is the steward of the cluster")
		*lead = l
		return nil
	default:
	}
	_, err := s.c.State.Next(looking, v)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case looking.Err() != nil:
		return nil
	}
	return err
}

// pause waits by the clock of the store.
func (s *Steward) pause(ctx context.Context, d time.Duration) {
	coord.Sleep(ctx, s.c.Store.Clock(), d)
}

// act makes the changes that may be made now, and returns the revision of the last one.
func (s *Steward) act(ctx context.Context, lead *coord.Leadership, v *record.View) coord.Revision {
	s.mu.Lock()
	plan, err := s.planner.Plan(s.watcher.Facts(v, s.now()))
	s.mu.Unlock()
	if err != nil {
		s.c.Log.Error("groups cannot be placed", "error", err)
		return 0
	}
	b := batch{kinds: map[Kind]int{}, turns: make(chan struct{}, parallel)}
	for _, c := range plan {
		if !b.begin() || lead.Err() != nil || ctx.Err() != nil {
			break
		}
		b.under.Go(func() { b.end(s.make(ctx, lead, c)) })
	}
	b.under.Wait()
	if len(b.kinds) > 0 {
		s.c.Log.Debug("changed placement groups", "changes", fmt.Sprint(b.kinds), "example", b.example)
	}
	if b.failure != nil && ctx.Err() == nil {
		s.c.Log.Warn("changes of placement groups have to wait", "error", b.failure)
	}
	return b.last
}

// A batch is changes that are made at the same time.
type batch struct {
	under sync.WaitGroup
	turns chan struct{}

	mu      sync.Mutex
	last    coord.Revision
	kinds   map[Kind]int // of those that were made
	example string
	failure error
}

// begin waits for its turn, and reports whether none has failed yet.
func (b *batch) begin() bool {
	b.turns <- struct{}{}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure == nil
}

// end notes what has become of a change.
func (b *batch) end(c *Change, r coord.Revision, err error) {
	<-b.turns
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(b.last, r)
	switch {
	case err != nil:
		b.failure = err
	case c != nil:
		b.kinds[c.Kind]++
		b.example = c.String()
	}
}

// make makes a change, unless somebody else has changed that group or leads. It returns
// the change if it was made, and the revision at which that was so.
func (s *Steward) make(ctx context.Context, lead *coord.Leadership, c Change) (*Change, coord.Revision, error) {
	same, put, err := c.Entry()
	if err != nil {
		return nil, 0, err
	}
	r, err := s.c.Store.Txn(ctx, coord.Txn{If: []coord.Compare{lead.If(), same}, Then: []coord.Op{put}})
	if err != nil {
		return nil, 0, fmt.Errorf("%v: %w", c, err)
	}
	if !r.Done {
		return nil, r.Revision, nil
	}
	s.mu.Lock()
	s.watcher.did(c.Group, r.Revision, c.Record)
	s.mu.Unlock()
	s.c.Log.Debug("changed a placement group", "change", c.Kind.String(), "group", c.Group, "disk", c.Disk, "why", c.Why, "epoch", int64(r.Revision))
	return &c, r.Revision, nil
}
