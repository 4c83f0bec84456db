package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// A doubt is why an object may not be the same on all disks.
type doubt struct {
	// source is the disk whose state the others are to get, the first member if it
	// is none.
	source record.Member
	// verify: content may have been damaged.
	verify bool
}

// doubt notes that an object may differ.
func (v *Volume) doubt(index uint64, d doubt) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.doubts[index]
	d.verify = d.verify || old.verify
	v.doubts[index] = d
	v.some.Store(int64(len(v.doubts)))
}

// doubtful returns an object of a range that may differ.
func (v *Volume) doubtful(off, n int64) (uint64, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for index := range v.doubts {
		if at := int64(index) * v.c.ObjectSize; n > 0 && at < off+n && off < at+v.c.ObjectSize {
			return index, true
		}
	}
	return 0, false
}

// settle makes an object the same on all disks.
func (v *Volume) settle(ctx context.Context, index uint64) error {
	lock, err := v.locks.Lock(ctx, int64(index)*v.c.ObjectSize, v.c.ObjectSize)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	v.mu.Lock()
	d, ok := v.doubts[index]
	v.mu.Unlock()
	if !ok {
		return nil // somebody else was faster
	}
	group := v.groupOf(index)
	err = v.steady(group, func(rec record.Group, epoch coord.Revision) error {
		e := equal{v: v, group: group, epoch: epoch, rec: rec, index: index, verify: d.verify}
		return e.run(d.source)
	})
	v.wrote(group)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.doubts, index)
	v.some.Store(int64(len(v.doubts)))
	return nil
}

// steady calls f until it has succeeded at one epoch.
func (v *Volume) steady(group int, f func(record.Group, coord.Revision) error) error {
	var t trial
	for {
		rec, epoch, err := v.record(group)
		if err == nil && epoch == 0 {
			err = fmt.Errorf("group %d has no record: %w", group, block.ErrIO)
		}
		if err != nil {
			return err
		}
		err = f(rec, epoch)
		var bad *fault
		if err == nil || !errors.As(err, &bad) {
			return err
		}
		if err := v.mend(&t, bad); err != nil {
			return err
		}
	}
}

// prepareAll makes all groups of the volume ready.
func (v *Volume) prepareAll(ctx context.Context) error {
	if err := v.inTime(ctx, func(ctx context.Context) error { return v.c.Agreed.Wait(ctx, v.c.Generation) }); err != nil {
		return err
	}
	return v.prepareObjects(0, v.objects(v.c.Size))
}

// objects is how many there are in a volume of that size.
func (v *Volume) objects(size int64) uint64 {
	return (uint64(size) + uint64(v.c.ObjectSize) - 1) / uint64(v.c.ObjectSize)
}

// maxPrepare is how many groups are made ready at the same time.
const maxPrepare = 16

// prepareObjects makes all groups ready that objects from one up to another are in, but
// for those that are.
func (v *Volume) prepareObjects(first, end uint64) error {
	groups := v.newParts(first, end)
	return each(len(groups), maxPrepare, func(i int) error {
		g := groups[i]
		return v.steady(g, func(rec record.Group, epoch coord.Revision) error { return v.prepare(g, rec, epoch) })
	})
}

// newParts notes the groups of objects, and returns those that were not known.
func (v *Volume) newParts(first, end uint64) (groups []int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := first; i < end && len(v.parts) < v.c.Count; i++ {
		g := v.groupOf(i)
		if v.parts[g] == nil {
			rec, _ := v.c.Agreed.Group(g)
			v.parts[g] = &served{revived: rec.Revived, unflushed: true}
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return groups
}

// prepare makes a group ready: its disks refuse other gateways, and what the head
// reads is the same on all of them.
func (v *Volume) prepare(group int, rec record.Group, epoch coord.Revision) error {
	dirty, err := v.marked(group, rec, epoch)
	if err != nil {
		return err
	}
	for _, index := range dirty {
		e := equal{v: v, group: group, epoch: epoch, rec: rec, index: index}
		if err := e.run(record.Member{}); err != nil {
			return err
		}
	}
	return nil
}

// marked returns the objects of the volume's family that are dirty on any disk of a
// group.
func (v *Volume) marked(group int, rec record.Group, epoch coord.Revision) ([]uint64, error) {
	disks := slices.Concat(rec.Members, rec.Joining)
	lists := make([][]uint64, len(disks))
	err := each(len(disks), len(disks), func(i int) error {
		m := disks[i]
		to := To{m.Disk, m.Incarnation, group, epoch}
		err := v.way(group, m).call(func(ctx context.Context, p Peer, _ *Writer) error {
			for from, more := uint64(0), true; more; {
				list, again, err := p.Dirty(ctx, to, from)
				if err != nil {
					return err
				}
				for _, d := range list {
					if d.Family == v.c.Head.Family {
						lists[i] = append(lists[i], d.Index)
					}
				}
				if more = again; more {
					from = list[len(list)-1].Hash() + 1
				}
			}
			return nil
		})
		if err != nil {
			return &fault{group: group, member: m, err: err}
		}
		return nil
	})
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all), err
}

// Tidy takes back the marks of objects that are the same on all disks, and returns
// how many it has found marked. Call it after a flush, now and then: what is marked
// is compared when the head is attached again. Groups of which a disk does not answer
// are left as they are; then it returns an error, too, and has done the others.
func (v *Volume) Tidy(ctx context.Context) (marked int, err error) {
	if err := v.serve(ctx); err != nil {
		return 0, err
	}
	defer v.gate.Leave()
	v.mu.Lock()
	groups := slices.Sorted(maps.Keys(v.parts))
	v.mu.Unlock()
	var left error
	for _, g := range groups {
		n, err := v.tidyGroup(ctx, g)
		marked += n
		var bad *fault
		switch {
		case errors.As(err, &bad):
			left = cmp.Or(left, err)
		case err != nil:
			return marked, err
		}
	}
	return marked, left
}

func (v *Volume) tidyGroup(ctx context.Context, group int) (marked int, err error) {
	rec, epoch, err := v.record(group)
	if err != nil {
		return 0, err
	}
	dirty, err := v.marked(group, rec, epoch)
	if err != nil {
		return 0, err
	}
	for _, index := range dirty {
		if err := v.tidy(ctx, index, equal{v: v, group: group, epoch: epoch, rec: rec, index: index}); err != nil {
			return len(dirty), err
		}
	}
	return len(dirty), nil
}

// tidy takes back the marks of one object, while no change of it is under way.
func (v *Volume) tidy(ctx context.Context, index uint64, e equal) error {
	lock, err := v.lock(ctx, int64(index)*v.c.ObjectSize, v.c.ObjectSize, true)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return e.clear()
}
