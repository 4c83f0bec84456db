package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/upkeep"
	"github.com/strata-storage/strata/source"
)

// disks are those of the node, by their IDs. They do not change.
type disks map[string]*ownDisk

// An ownDisk is a disk of this node.
type ownDisk struct {
	disk   *disk.Disk
	kept   *upkeep.Disk
	size   int64
	member *replica.Member
}

// openDisks opens all disks of the node.
func (n *Node) openDisks(ctx context.Context) error {
	opened := make([]*ownDisk, len(n.is.Disks))
	errs := make([]error, len(n.is.Disks))
	var all sync.WaitGroup
	for i, d := range n.is.Disks {
		all.Go(func() { opened[i], errs[i] = n.openDisk(ctx, d) })
	}
	all.Wait()
	n.disks = disks{}
	for i, d := range opened {
		if d != nil {
			n.disks[n.is.Disks[i].ID] = d
			n.later(d.disk.Close)
		}
	}
	return errors.Join(errs...)
}

func (n *Node) openDisk(ctx context.Context, d home.Disk) (_ *ownDisk, err error) {
	fail := func(err error) (*ownDisk, error) {
		return nil, fmt.Errorf("opening disk %d, %s: %w", d.Number, d.ID, err)
	}
	slab, err := source.File(ctx, source.FileOptions{Path: n.home.Slab(d.Number)})
	if err != nil {
		return fail(err)
	}
	if n.o.slab != nil {
		slab = n.o.slab(slab)
	}
	own, err := disk.Open(ctx, disk.Config{
		Slab: slab, Dir: n.home.Meta(d.Number), Trees: agreed{n.state}, Cache: n.o.Cache / 2, MetaCache: n.o.Cache / 2,
	})
	if err != nil {
		return fail(errors.Join(err, slab.Close()))
	}
	if got := own.UUID().String(); got != d.ID {
		return fail(errors.Join(fmt.Errorf("it is the disk %s: %w", got, home.ErrOther), own.Close()))
	}
	kept := upkeep.NewDisk(d.ID, slab.Info().Size, own, n.o.Upkeep)
	kept.Member = replica.NewMember(replica.MemberConfig{
		ID: d.ID, Incarnation: n.incarnation, Disk: kept, Agreed: agreed{n.state}, Clock: n.store.Clock(),
		Groups: n.state.View().Pool.Record.Groups, Peer: n.peer, Pace: kept.Pace,
	})
	return &ownDisk{own, kept, slab.Info().Size, kept.Member}, nil
}

// maxJoins bounds how many groups disks of a node join at the same time.
const maxJoins = 16

// A joint is a disk that joins a group.
type joint struct {
	group int
	as    record.Member
}

// join makes disks of this node members wherever they are in a record as joining
// ones. It is the goroutine of that.
func (n *Node) join() {
	var all sync.WaitGroup
	defer all.Wait()
	var mu sync.Mutex
	running := map[joint]bool{}
	free := make(chan struct{}, maxJoins)
	groups := &replica.Groups{Store: n.store}
	for v := n.state.View(); ; {
		for number, e := range v.Groups.All() {
			for _, m := range e.Record.Joining {
				own := n.disks[m.Disk]
				j := joint{number, m}
				mu.Lock()
				begin := own != nil && m.Incarnation == n.incarnation && !running[j]
				if begin {
					running[j] = true
				}
				mu.Unlock()
				if !begin {
					continue
				}
				all.Go(func() {
					free <- struct{}{}
					defer func() { <-free }()
					err := n.joinAs(own, number, func(ctx context.Context) error { return own.member.Join(ctx, groups, number) })
					if err != nil {
						n.o.Log.Debug("a disk could not join a group yet", "disk", m.Disk, "group", number, "error", err)
					}
					mu.Lock()
					defer mu.Unlock()
					delete(running, j)
				})
			}
		}
		if _, err := n.state.Next(n.ctx, v); err != nil {
			return
		}
		// Records of groups change a great many at a time.
		if !n.pause(n.ctx, joinPause) {
			return
		}
		v = n.state.View()
	}
}
