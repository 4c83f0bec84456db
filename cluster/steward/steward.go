package steward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// Key is the key of the election, its value the ID of the node that leads.
const Key = "leader/steward"

const (
	// A look is followed by a rest for restTimes as long as it took, within bounds: the
	// steward of many groups does not use up the processor while their records change one
	// after the other, and that of a few acts at once. One that has made changes goes on
	// sooner: there may be more.
	restTimes = 9
	workTimes = 1
	minRest   = 10 * time.Millisecond
	maxRest   = 200 * time.Millisecond
	// lookEvery is how long it takes to the next look if nothing changes: time alone may
	// make something due.
	lookEvery = 2 * time.Second
	// together is how many changes are made by one transaction, which compares the
	// leadership, too.
	together = coord.MaxOps / 2
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
		v, began := s.c.State.View(), time.Now()
		rest := time.Duration(restTimes)
		switch {
		case lead == nil || v.Revision < done:
			s.see(v)
		case lead.Err() != nil:
			s.c.Log.Info("this node is not the steward any more", "why", lead.Err())
			lead = nil
			continue
		default:
			if last := s.act(ctx, lead, v); last > done {
				done, rest = last, workTimes
			}
		}
		s.pause(ctx, min(max(rest*time.Since(began), minRest), maxRest))
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
	made := map[Kind]int{}
	var last coord.Revision
	for some := range slices.Chunk(plan, together) {
		if lead.Err() != nil || ctx.Err() != nil {
			break
		}
		r, err := s.makeAll(ctx, lead, some, made)
		if last = max(last, r); err != nil {
			if ctx.Err() == nil {
				s.c.Log.Warn("changes of placement groups have to wait", "error", err)
			}
			break
		}
	}
	if len(made) > 0 {
		s.c.Log.Debug("changed placement groups", "changes", fmt.Sprint(made), "example", plan[0].String())
	}
	return last
}

// makeAll makes changes in one transaction, or if somebody else has changed one of the groups
// in several, without those. It counts those that were made, and returns the revision of the
// last one.
func (s *Steward) makeAll(ctx context.Context, lead *coord.Leadership, some []Change, made map[Kind]int) (coord.Revision, error) {
	done, r, err := s.make(ctx, lead, some)
	switch {
	case err != nil:
		return 0, err
	case done:
		for _, c := range some {
			made[c.Kind]++
		}
		return r, nil
	case len(some) == 1:
		return r, nil
	}
	for half := range slices.Chunk(some, (len(some)+1)/2) {
		last, err := s.makeAll(ctx, lead, half, made)
		if r = max(r, last); err != nil {
			return r, err
		}
	}
	return r, nil
}

// make makes changes in one transaction, unless somebody else has changed one of the groups or
// leads. It tells whether they were made, and the revision at which that was so.
func (s *Steward) make(ctx context.Context, lead *coord.Leadership, some []Change) (bool, coord.Revision, error) {
	t, err := Together(some)
	if err != nil {
		return false, 0, err
	}
	t.If = append(t.If, lead.If())
	r, err := s.c.Store.Txn(ctx, t)
	if err != nil {
		return false, 0, fmt.Errorf("%v: %w", some[0], err)
	}
	if !r.Done {
		return false, r.Revision, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range some {
		s.watcher.did(c.Group, r.Revision, c.Record)
		s.c.Log.Debug("changed a placement group", "change", c.Kind.String(), "group", c.Group, "disk", c.Disk, "why", c.Why, "epoch", int64(r.Revision))
	}
	return true, r.Revision, nil
}
