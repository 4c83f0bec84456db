package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/place"
	"github.com/strata-storage/strata/cluster/record"
)

// maxBatch is how many groups are changed by one transaction.
const maxBatch = coord.MaxOps

// joinPause is between two looks at who joins, leasePause between two attempts to get a
// lease, and looks whether there is another one.
const (
	joinPause  = 50 * time.Millisecond
	leasePause = 200 * time.Millisecond
)

// pause waits by the clock of the store, and reports whether ctx is still alive.
func (n *Node) pause(ctx context.Context, d time.Duration) bool {
	over := make(chan struct{})
	defer n.store.Clock().AfterFunc(d, func() { close(over) })()
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

// ensure sees to it that all groups in which a volume has objects have a record with
// somebody in it who lives, as far as that is possible now. Others may do the same at
// the same time.
func (n *Node) ensure(ctx context.Context, v *record.View, volume record.Volume, size int64) error {
	for {
		t, err := amend(v, volume, size)
		if err != nil || len(t.Then) == 0 {
			return err
		}
		r, err := n.store.Txn(ctx, t)
		if err != nil {
			return fmt.Errorf("changing placement groups: %w", err)
		}
		if v, err = n.state.Wait(ctx, r.Revision); err != nil {
			return err
		}
	}
}

// amend returns a transaction that makes or revives some of the groups of a volume, an
// empty one if there is nothing to do.
func amend(v *record.View, volume record.Volume, size int64) (t coord.Txn, err error) {
	here := present{v}
	var placed *place.Map
	for _, number := range groupsOf(volume, size, v.Pool.Record.Groups) {
		g, epoch := v.Group(number)
		if epoch == 0 {
			if placed == nil {
				if placed, err = place.New(here.disks()); err != nil {
					return t, err
				}
			}
			for _, id := range placed.Disks(uint64(number), volume.Copies) {
				g.Members = append(g.Members, record.Member{Disk: id, Incarnation: here.incarnation(id)})
			}
			if len(g.Members) == 0 {
				return t, fmt.Errorf("there is no disk for volumes: %w", block.ErrNoSpace)
			}
		} else if g = here.revive(g, epoch); g.Members == nil {
			continue
		}
		key := record.GroupKey(number)
		value, err := record.Encode(key, g)
		if err != nil {
			return t, err
		}
		t.If = append(t.If, coord.IfRevision(key, epoch))
		t.Then = append(t.Then, coord.Put(key, value))
		if len(t.Then) == maxBatch {
			break
		}
	}
	return t, nil
}

// groupsOf are the numbers of the groups in which a volume has objects, where there are
// count of them.
func groupsOf(volume record.Volume, size int64, count int) []int {
	var list []int
	seen := make([]bool, count)
	for i := range (size + volume.ObjectSize - 1) / volume.ObjectSize {
		o := disk.Object{Family: volume.Family, Index: uint64(i)}
		number := volume.Group(o.Hash(), count)
		if _, index := record.SplitGroup(number); !seen[index] {
			seen[index] = true
			if list = append(list, number); len(list) == count {
				break
			}
		}
	}
	slices.Sort(list)
	return list
}

// present is who is there in a view.
type present struct{ *record.View }

// incarnation is that of the process that has a disk, "" if there is none, or the disk
// has failed.
func (p present) incarnation(id string) string {
	d, _ := p.Disks.Get(id)
	if d.Record.Failed != "" {
		return ""
	}
	r, _ := p.Runs.Get(d.Record.Node)
	return r.Record.Incarnation
}

// disks are those that may be members of new groups.
func (p present) disks() (list []place.Disk) {
	for id, d := range p.Disks.All() {
		node, _ := p.Nodes.Get(d.Record.Node)
		if p.incarnation(id) != "" && !node.Record.Draining {
			list = append(list, place.Disk{ID: id, Node: d.Record.Node, Zone: node.Record.Zone, Weight: d.Record.Weight})
		}
	}
	return list
}

// revive returns the record with which a group goes on whose members were all started
// anew, and one without members if that is not so, or some are away, who may have more:
// it is for the steward to decide how long they are waited for. See replica.Groups.
func (p present) revive(g record.Group, epoch coord.Revision) record.Group {
	back := record.Group{Revived: g.Revived + 1}
	for _, m := range g.Members {
		now := p.incarnation(m.Disk)
		if now == m.Incarnation || now == "" {
			return record.Group{}
		}
		back.Members = append(back.Members, record.Member{Disk: m.Disk, Incarnation: now, Since: int64(epoch)})
	}
	return back
}

// unknown reports whether an error of the store leaves open what was done.
func unknown(err error) bool {
	for _, refused := range []error{
		record.ErrInvalid, record.ErrExists, record.ErrNotFound, record.ErrInUse, record.ErrDetached, record.ErrConflict, coord.ErrInvalid, coord.ErrNoLease,
	} {
		if errors.Is(err, refused) {
			return false
		}
	}
	return true
}
