package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/place"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

const (
	lastHash = ^uint64(0)
	// What must not be removed yet is looked at again after that time, longer and longer.
	firstClean = 5 * time.Second
	lastClean  = 10 * time.Minute
	// Objects that a step looks at.
	leastObjects = 1
	mostObjects  = 1024
)

// had is what decides whether a disk may have something that it should not have.
type had struct {
	// parts is of how many groups it has a part, families how many there are, vanished
	// how many have gone.
	parts    map[int]bool
	families int
}

// lost reports whether the disk has less to do, or a family has gone, than before.
func (h *had) lost(v *record.View, d *Disk) (lost bool) {
	now := map[int]bool{}
	for number, g := range v.Groups.All() {
		if has(g.Record, d.ID) {
			now[number] = true
		}
	}
	for number := range h.parts {
		lost = lost || !now[number]
	}
	families := v.Families.Len()
	lost = lost || families < h.families
	h.parts, h.families = now, families
	return lost
}

// has reports whether a disk is in a record, in any incarnation.
func has(g record.Group, id string) bool {
	for _, list := range [2][]record.Member{g.Members, g.Joining} {
		for _, m := range list {
			if m.Disk == id {
				return true
			}
		}
	}
	return false
}

// clean is the goroutine that removes what a disk should not have. It goes over all objects
// after the start, and when the disk was removed from a group or a family has gone.
func (k *Keeper) clean(ctx context.Context, d *Disk) {
	var h had
	due, wait := true, firstClean
	for {
		v := k.c.State.View()
		if h.lost(v, d) {
			due, wait = true, firstClean
		}
		idle := time.Duration(0)
		if due {
			left, err := k.cleanAll(ctx, d)
			if err != nil && ctx.Err() == nil {
				k.c.Log.Warn("a disk could not be cleaned", "disk", d.ID, "error", err)
				left++
			}
			if due = left > 0; due {
				idle, wait = wait, min(2*wait, lastClean)
			}
		}
		k.pause(ctx, settle)
		if k.next(ctx, v, idle) != nil {
			return
		}
		if idle > 0 { // changes of records that do not matter must not begin it again
			k.pause(ctx, settle)
		}
	}
}

// cleaning is one pass over the objects of a disk.
type cleaning struct {
	k      *Keeper
	d      *Disk
	view   *record.View
	wanted *place.Map
	placed map[int]bool
	// job is there once something is removed.
	job     *job.Job
	left    int
	removed int64
}

// cleanAll removes what may be removed now, and returns how many objects should be later.
func (k *Keeper) cleanAll(ctx context.Context, d *Disk) (left int, err error) {
	c := &cleaning{k: k, d: d}
	defer func() {
		if c.job != nil {
			c.job.End()
		}
	}()
	for from, more := uint64(0), true; more; {
		if from, more, err = c.some(ctx, from); err != nil {
			return c.left, err
		}
	}
	if c.removed == 0 {
		return c.left, nil
	}
	k.c.Log.Debug("objects were removed that a disk should not have", "disk", d.ID, "objects", c.removed)
	return c.left, c.job.Step(ctx, func() error { return d.Disk.Flush(ctx) })
}

// some looks at some objects from a hash on.
func (c *cleaning) some(ctx context.Context, from uint64) (next uint64, more bool, err error) {
	if err := c.look(); err != nil {
		return 0, false, err
	}
	var list []disk.Object
	for s, err := range c.d.List(ctx, from, lastHash) {
		if err != nil {
			return 0, false, err
		}
		if len(list) >= mostObjects && s.Hash() != list[len(list)-1].Hash() {
			next, more = s.Hash(), true
			break
		}
		list = append(list, s.Object)
	}
	for _, o := range list {
		group, epoch, foreign := c.foreign(o)
		if !foreign {
			continue
		}
		if c.job == nil {
			c.job = c.k.c.Board.Begin(job.What{Kind: job.Clean, Disk: c.d.ID, Unit: "objects"}, c.d.throttle)
		}
		err := c.job.Step(ctx, func() error {
			if group == 0 {
				return c.d.Disk.Remove(ctx, o)
			}
			return c.d.Member.Discard(ctx, group, epoch, o)
		})
		switch {
		case errors.Is(err, replica.ErrEpoch) || errors.Is(err, replica.ErrNoMember):
			c.left++
		case err != nil:
			return 0, false, err
		default:
			c.removed++
			c.job.Add(1, 0)
		}
	}
	return next, more, nil
}

// look takes the newest view.
func (c *cleaning) look() (err error) {
	v := c.k.c.State.View()
	if c.view == v {
		return nil
	}
	c.view, c.placed = v, map[int]bool{}
	c.wanted, err = v.Placement(nil)
	return err
}

// foreign reports whether an object can be removed: one of a family that there is no more,
// with group 0, or one of a group that has its copies elsewhere.
func (c *cleaning) foreign(o disk.Object) (group int, epoch coord.Revision, is bool) {
	f, ok := c.view.Families.Get(o.Family)
	if !ok {
		return 0, 0, true
	}
	if f.Volume.Revision == 0 {
		return 0, 0, false // its record cannot be understood
	}
	group = f.Volume.Record.Group(o.Hash(), c.view.Pool.Record.Groups)
	g, epoch := c.view.Group(group)
	// What a full disk was removed from, and others have by now, keeps it full.
	if epoch == 0 || has(g, c.d.ID) || c.wants(group) && !full(c.d.Stats()) {
		return group, epoch, false
	}
	if !c.whole(group, g) {
		c.left++
		return group, epoch, false
	}
	return group, epoch, true
}

// wants reports whether placement wants the disk to have a group.
func (c *cleaning) wants(group int) bool {
	is, known := c.placed[group]
	if !known {
		copies, index := record.SplitGroup(group)
		for _, id := range c.wanted.Disks(uint64(index), copies) {
			is = is || id == c.d.ID
		}
		c.placed[group] = is
	}
	return is
}

// whole reports whether a group has as many living members as placement wants.
func (c *cleaning) whole(group int, g record.Group) bool {
	copies, index := record.SplitGroup(group)
	living := 0
	for _, m := range g.Members {
		if lives(c.view, m) {
			living++
		}
	}
	return living == len(g.Members) && living >= max(1, len(c.wanted.Disks(uint64(index), copies)))
}
