package upkeep

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// A Config is what a keeper works with. All but the last two are needed.
type Config struct {
	// Store is the agreed state, State the copy of it that the node follows.
	Store coord.Store
	State *record.State
	// Node and Incarnation are those of the process.
	Node, Incarnation string
	// Disks are those of the node.
	Disks []*Disk
	// Board gets the jobs.
	Board *job.Board
	// Peer is the way to a disk.
	Peer func(record.Member) replica.Peer
	// Ask sends a question to another node, where Answer gets it.
	Ask func(ctx context.Context, node string, question []byte) (answer []byte, err error)

	Options Options
	// Log is told what was found and done. Nil is nobody.
	Log *slog.Logger
}

// A Keeper does the background work of a node.
type Keeper struct {
	c       Config
	o       Options
	catalog record.Catalog
	groups  replica.Groups
	began   time.Time
}

// New returns a keeper that does nothing before Run.
func New(c Config) *Keeper {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return &Keeper{
		c: c, o: c.Options.withDefaults(), catalog: record.Catalog{Store: c.Store}, groups: replica.Groups{Store: c.Store},
		began: time.Now(),
	}
}

// Run does the work until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, d := range k.c.Disks {
		for _, f := range []func(context.Context, *Disk){k.takeApart, k.clean, k.scrub, k.mendMet, k.watch} {
			all.Go(func() { f(ctx, d) })
		}
	}
	all.Go(func() { k.coordinate(ctx) })
	all.Wait()
}

// own returns a disk of this node, nil if it is none.
func (k *Keeper) own(id string) *Disk {
	for _, d := range k.c.Disks {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// next waits until there is a newer view than v, or some time has passed, which is for
// ever if it is 0. The error is that of the context or the copy.
func (k *Keeper) next(ctx context.Context, v *record.View, d time.Duration) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	if d > 0 {
		defer k.c.Store.Clock().AfterFunc(d, cancel)()
	}
	_, err := k.c.State.Next(waiting, v)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if waiting.Err() != nil {
		return nil
	}
	return err
}

// pause waits by the clock of the store.
func (k *Keeper) pause(ctx context.Context, d time.Duration) {
	coord.Sleep(ctx, k.c.Store.Clock(), d)
}

// newest returns a view that shows all that is agreed now.
func (k *Keeper) newest(ctx context.Context) (*record.View, error) {
	_, r, err := k.c.Store.Get(ctx, record.PoolKey)
	if err != nil {
		return nil, err
	}
	return k.c.State.Wait(ctx, r)
}

// lives reports whether a member does: its process runs, and its disk has not failed.
func lives(v *record.View, m record.Member) bool {
	d, _ := v.Disks.Get(m.Disk)
	r, _ := v.Runs.Get(d.Record.Node)
	return d.Record.Failed == "" && r.Record.Incarnation != "" && r.Record.Incarnation == m.Incarnation
}

// Renew lets a member join its group again, which makes it equal to the others.
func (k *Keeper) Renew(ctx context.Context, group int, m record.Member) (coord.Revision, error) {
	return k.groups.Renew(ctx, group, m)
}
