package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
)

// Pieces that a step of a deletion looks at.
const (
	leastPieces = 8
	mostPieces  = 4096
)

// settle is how long changes of the records are collected before what follows from them is
// done.
const settle = 20 * time.Millisecond

// blocked is when a deletion that could not do everything is tried again at the latest.
const blocked = time.Second

// A pass is what a disk has done for one deletion.
type pass struct {
	revision coord.Revision // of the deletion
	// groups is the last change of a record of a group with the family's number of copies
	// that had been seen when it began.
	groups coord.Revision
	// kept are the versions of which something is needed by others. All others have
	// nothing left, durably.
	kept map[uint64]bool
}

// takeApart is the goroutine that does the deletions of a disk.
func (k *Keeper) takeApart(ctx context.Context, d *Disk) {
	jobs := map[uint64]*job.Job{}
	for {
		v := k.c.State.View()
		wait := time.Duration(0)
		for family, e := range v.Deletions.All() {
			if p := d.passOf(family); p != nil && p.revision == e.Revision && p.groups == groupsRevision(v, family) {
				continue
			}
			j := jobs[family]
			if j == nil {
				j = k.c.Board.Begin(job.What{Kind: job.Delete, Disk: d.ID, Family: family, Unit: "objects"}, d.throttle)
				jobs[family] = j
			}
			done, err := k.takeOne(ctx, d, j, family, e, v)
			if ctx.Err() != nil {
				return
			}
			if done {
				j.End()
				delete(jobs, family)
				continue
			}
			if j.Wait(err); err != nil {
				wait = blocked
			} else if wait == 0 {
				wait = settle
			}
		}
		for family, j := range jobs {
			if _, ok := v.Deletions.Get(family); !ok {
				j.End()
				delete(jobs, family)
				d.setPass(family, nil)
			}
		}
		k.pause(ctx, settle)
		if k.next(ctx, v, wait) != nil {
			return
		}
	}
}

// errJoining: something had to be left out.
var errJoining = errors.New("waiting for disks that join groups")

// takeOne takes the versions of a deletion apart, as far as that may be done now.
func (k *Keeper) takeOne(ctx context.Context, d *Disk, j *job.Job, family uint64, e record.Entry[record.Deletion], v *record.View) (done bool, err error) {
	p := &pass{revision: e.Revision, groups: groupsRevision(v, family), kept: map[uint64]bool{}}
	total := int64(0)
	for _, version := range e.Record.Versions {
		for _, err := range d.Objects(ctx, family, version) {
			if err != nil {
				return false, err
			}
			total++
		}
	}
	j.Set(0, total)
	skipped := 0
	for _, version := range e.Record.Versions {
		var next disk.Cursor
		err := j.Run(ctx, leastPieces, mostPieces, func(ctx context.Context, n int) (bool, error) {
			s, err := d.Member.Delete(ctx, family, version, next, n)
			next = s.Next
			skipped += s.Skipped
			if s.Kept > 0 {
				p.kept[version] = true
			}
			j.Add(int64(s.Objects), 0)
			return !s.Done, err
		})
		if err != nil {
			return false, err
		}
	}
	if err := j.Step(ctx, func() error { return d.Disk.Flush(ctx) }); err != nil {
		return false, err
	}
	if skipped > 0 {
		return false, errJoining
	}
	for _, version := range e.Record.Versions {
		left, err := d.Member.Left(ctx, family, version)
		if err != nil {
			return false, err
		}
		if left && !p.kept[version] {
			// It was not durable before, or has come from an older version.
			return false, nil
		}
	}
	d.setPass(family, p)
	return true, nil
}

func (d *Disk) passOf(family uint64) *pass {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passes[family]
}

func (d *Disk) setPass(family uint64, p *pass) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p == nil {
		delete(d.passes, family)
	} else {
		d.passes[family] = p
	}
}

// groupsRevision is the last change of a record of a group that may have objects of a
// family.
func groupsRevision(v *record.View, family uint64) (last coord.Revision) {
	f, ok := v.Families.Get(family)
	if !ok {
		return 0
	}
	for number, e := range v.Groups.All() {
		if copies, _ := record.SplitGroup(number); copies == f.Volume.Record.Copies {
			last = max(last, e.Revision)
		}
	}
	return last
}

// deleted says whether a disk is done with a deletion, and which of its versions are still
// needed. It is so by the records of groups in that view: nothing has come since then but by
// joining a group, which changes its record.
func (d *Disk) deleted(v *record.View, family uint64, revision coord.Revision) (done bool, kept []uint64) {
	p := d.passOf(family)
	if p == nil || p.revision != revision || p.groups != groupsRevision(v, family) {
		return false, nil
	}
	for version := range p.kept {
		kept = append(kept, version)
	}
	return true, kept
}
