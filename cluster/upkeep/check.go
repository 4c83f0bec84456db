package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

const (
	// maxFindings bounds the sentences of one answer, checkTime how long a node works for
	// it.
	maxFindings = 100
	checkTime   = time.Second
	// maxAllFindings bounds the sentences of a check.
	maxAllFindings = 10_000
	// checkTries is how often a group is tried whose record has changed meanwhile.
	checkTries = 20
)

// askCheck asks for a check of some objects of a family on a disk, in a group.
type askCheck struct {
	Disk   string `json:"disk"`
	Family uint64 `json:"family"`
	Group  int    `json:"group"`
	// From is the hash to begin with.
	From uint64 `json:"from"`
	// Compare: the digests of all members are compared, of the whole group. Otherwise
	// data of the disk are verified.
	Compare bool `json:"compare,omitempty"`
	Mend    bool `json:"mend,omitempty"`
}

// Found is what a check has found.
type Found struct {
	// Objects and Bytes are how much was looked at, Bad how much was not as it should be,
	// Mended how much of that is again.
	Objects, Bytes, Bad, Mended int64
	// Findings are sentences on what was bad, not on all of it if that is very much.
	Findings []string `json:",omitempty"`
	// Next is where to go on, if there is More.
	Next uint64 `json:",omitempty"`
	More bool   `json:",omitempty"`
}

func (f *Found) add(g *Found) {
	f.Objects, f.Bytes, f.Bad, f.Mended = f.Objects+g.Objects, f.Bytes+g.Bytes, f.Bad+g.Bad, f.Mended+g.Mended
	f.Findings = append(f.Findings, g.Findings[:min(len(g.Findings), max(0, maxAllFindings-len(f.Findings)))]...)
}

// CheckOptions say what Check does. The zero value compares digests, and changes nothing.
type CheckOptions struct {
	// Groups are those in which the family may have objects, in order; nil is all.
	Groups []int
	// Data: all data of all copies are read.
	Data bool
	// Mend: what is bad is mended, where another copy is good.
	Mend bool
	// Progress, if not nil, is told how much has been done.
	Progress func(done, total int, found *Found)
}

// Check compares all copies of the objects of a family, and reads them if that is wanted.
// It is the same as a scrub, of one family and now.
func (k *Keeper) Check(ctx context.Context, family uint64, o CheckOptions) (*Found, error) {
	all := &Found{}
	v, err := k.newest(ctx)
	if err != nil {
		return nil, err
	}
	f, ok := v.Families.Get(family)
	if !ok {
		return nil, fmt.Errorf("family %d: %w", family, record.ErrNotFound)
	}
	var numbers []int
	for number := range v.Groups.All() {
		_, wanted := slices.BinarySearch(o.Groups, number)
		if copies, _ := record.SplitGroup(number); copies == f.Volume.Record.Copies && (wanted || o.Groups == nil) {
			numbers = append(numbers, number)
		}
	}
	for i, number := range numbers {
		if o.Progress != nil {
			o.Progress(i, len(numbers), all)
		}
		if err := k.checkGroup(ctx, family, number, o, all); err != nil {
			return all, fmt.Errorf("checking group %#x: %w", number, err)
		}
	}
	return all, nil
}

// checkGroup checks one group, again if its record changes.
func (k *Keeper) checkGroup(ctx context.Context, family uint64, number int, o CheckOptions, all *Found) error {
	for try := 1; ; try++ {
		g, _ := k.c.State.View().Group(number)
		found, err := k.checkMembers(ctx, family, number, g, o)
		if err == nil {
			all.add(found)
			return nil
		}
		stale := errors.Is(err, replica.ErrEpoch) || errors.Is(err, replica.ErrNoMember) || errors.Is(err, replica.ErrIncarnation) || errors.Is(err, replica.ErrUnreachable)
		if !stale || try == checkTries || ctx.Err() != nil {
			all.add(found)
			return err
		}
		if found.Mended > 0 {
			all.add(found)
		}
		k.pause(ctx, look/2)
		if _, err := k.newest(ctx); err != nil {
			return err
		}
	}
}

func (k *Keeper) checkMembers(ctx context.Context, family uint64, number int, g record.Group, o CheckOptions) (*Found, error) {
	all := &Found{}
	for i, m := range g.Members {
		q := askCheck{Disk: m.Disk, Family: family, Group: number, Mend: o.Mend}
		if i == 0 {
			q.Compare = true
			if err := k.checkSome(ctx, q, all); err != nil {
				return all, err
			}
		}
		if q.Compare = false; !o.Data {
			break
		}
		if err := k.checkSome(ctx, q, all); err != nil {
			return all, err
		}
	}
	return all, nil
}

// checkSome asks a disk until it has done all.
func (k *Keeper) checkSome(ctx context.Context, q askCheck, all *Found) error {
	for more := true; more; {
		v := k.c.State.View()
		d, _ := v.Disks.Get(q.Disk)
		a, err := k.ask(ctx, d.Record.Node, question{Revision: v.Revision, Check: &q})
		if err != nil {
			return err
		}
		if a.Check == nil {
			return fmt.Errorf("the answer of node %s has no check: %w", d.Record.Node, block.ErrInvalid)
		}
		all.add(a.Check)
		q.From, more = a.Check.Next, a.Check.More
	}
	return nil
}

// replyCheck does a part of a check.
func (k *Keeper) replyCheck(ctx context.Context, q *askCheck) (*Found, error) {
	d := k.own(q.Disk)
	if d == nil {
		return nil, fmt.Errorf("there is no disk %s here: %w", q.Disk, replica.ErrIncarnation)
	}
	if !d.Member.Takes(q.Group) {
		return nil, fmt.Errorf("disk %s, group %d: %w", q.Disk, q.Group, replica.ErrNoMember)
	}
	found, pass := &Found{}, record.Pass{}
	report := func(err error) {
		if len(found.Findings) < maxFindings {
			found.Findings = append(found.Findings, fmt.Sprintf("disk %s: %v", d.ID, err))
		}
	}
	kind := job.Data
	if q.Compare {
		kind = job.Digests
	}
	j := k.c.Board.Begin(job.What{Kind: kind, Disk: d.ID, Group: q.Group, Family: q.Family, Unit: "bytes"}, d.throttle)
	defer j.End()
	var err error
	if q.Compare {
		c := comparison{k: k, d: d, job: j, group: q.Group, only: q.Family, mend: q.Mend, pass: &pass, report: report}
		if err = c.run(ctx); pass.Mended > 0 && errors.Is(err, replica.ErrEpoch) {
			err = nil
		}
	} else {
		err = k.checkData(ctx, d, j, q, &pass, found, report)
	}
	found.Objects, found.Bytes, found.Bad, found.Mended = pass.Objects, pass.Bytes, pass.Bad, pass.Mended
	return found, err
}

// checkData verifies objects for a while.
func (k *Keeper) checkData(ctx context.Context, d *Disk, j *job.Job, q *askCheck, pass *record.Pass, found *Found, report func(error)) error {
	began := time.Now()
	from, last := d.Member.Hashes(q.Group)
	var list []disk.Summary
	for s, err := range d.List(ctx, max(from, q.From), last) {
		if err != nil {
			return err
		}
		if n := len(list); n >= replica.MaxList && s.Hash() != list[n-1].Hash() {
			found.More, found.Next = true, s.Hash()
			break
		}
		if s.Family == q.Family {
			list = append(list, s)
		}
	}
	for i, s := range list {
		if i > 0 && time.Since(began) > checkTime && s.Hash() != list[i-1].Hash() {
			found.More, found.Next = true, s.Hash()
			return nil
		}
		if err := k.verify(ctx, d, j, s, pass, q.Mend, report); err != nil {
			return err
		}
		orphans, err := k.orphans(ctx, d, s.Object)
		if err != nil {
			return err
		}
		for _, version := range orphans {
			pass.Bad++
			report(fmt.Errorf("object %v has version %d, which does not exist", s.Object, version))
		}
	}
	return nil
}

// orphans returns the versions of which a disk has something of an object and that are not
// in the family's tree.
func (k *Keeper) orphans(ctx context.Context, d *Disk, o disk.Object) ([]uint64, error) {
	list, err := versionsOf(ctx, d, o)
	if err != nil {
		return nil, err
	}
	// A version that a disk has is in a tree of the same time or later, until no disk
	// has it any more.
	known := func(version uint64) bool {
		f, ok := k.c.State.View().Families.Get(o.Family)
		if ok {
			_, ok = f.Versions.Get(version)
		}
		return ok
	}
	if list = slices.DeleteFunc(list, known); len(list) == 0 {
		return nil, nil
	}
	now, err := versionsOf(ctx, d, o)
	return slices.DeleteFunc(list, func(version uint64) bool { return !slices.Contains(now, version) }), err
}

// versionsOf returns the versions of an object of which a disk has something.
func versionsOf(ctx context.Context, d *Disk, o disk.Object) (list []uint64, err error) {
	for e, err := range d.Entries(ctx, o) {
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, e.Version) {
			list = append(list, e.Version)
		}
	}
	return list, nil
}
