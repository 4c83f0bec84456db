package upkeep

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// A comparison is one of what the members of a group have.
type comparison struct {
	k     *Keeper
	d     *Disk
	job   *job.Job
	group int
	// only is the family that is compared, 0 for all.
	only   uint64
	mend   bool
	pass   *record.Pass
	report func(error)

	rec   record.Group
	epoch coord.Revision
}

// run compares all members.
func (c *comparison) run(ctx context.Context) error {
	c.rec, c.epoch = c.k.c.State.View().Group(c.group)
	if len(c.rec.Members) < 2 {
		return nil
	}
	lists := make([]lister, len(c.rec.Members))
	for i, m := range c.rec.Members {
		lists[i] = lister{c: c, m: m, more: true}
	}
	for {
		var o disk.Object
		var differs, any bool
		err := c.job.Step(ctx, func() (err error) {
			for n := 0; n < replica.MaxList && !differs; n++ {
				if o, differs, any, err = c.next(ctx, lists); err != nil || !any {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if differs {
			if err := c.object(ctx, o); err != nil {
				return err
			}
		}
		if !any {
			return nil
		}
	}
}

// A lister goes through the objects that a member has in the group.
type lister struct {
	c    *comparison
	m    record.Member
	list []disk.Summary
	from uint64
	more bool
}

func (c *comparison) to(m record.Member) replica.To {
	return replica.To{Disk: m.Disk, Incarnation: m.Incarnation, Group: c.group, Epoch: c.epoch}
}

// head returns the next object of a member, if there is one.
func (l *lister) head(ctx context.Context) (s disk.Summary, ok bool, err error) {
	for len(l.list) == 0 && l.more {
		if l.list, l.more, err = l.c.k.c.Peer(l.m).List(ctx, l.c.to(l.m), l.from); err != nil {
			return s, false, err
		}
		if n := len(l.list); n > 0 {
			last := l.list[n-1].Hash()
			l.from, l.more = last+1, l.more && last != lastHash
		}
	}
	if len(l.list) == 0 {
		return s, false, nil
	}
	return l.list[0], true, nil
}

// next goes on by one object, and reports whether members have it differently.
func (c *comparison) next(ctx context.Context, lists []lister) (o disk.Object, differs, any bool, err error) {
	var least *disk.Summary
	for i := range lists {
		s, ok, err := lists[i].head(ctx)
		if err != nil {
			return o, false, false, err
		}
		if ok && (least == nil || before(s.Object, least.Object)) {
			least = &s
		}
	}
	if least == nil {
		return o, false, false, nil
	}
	o = least.Object
	for i := range lists {
		l := &lists[i]
		if len(l.list) == 0 || l.list[0].Object != o {
			differs = true
			continue
		}
		differs = differs || l.list[0].Digest != least.Digest
		l.list = l.list[1:]
	}
	if c.only != 0 && o.Family != c.only {
		return o, false, true, nil
	}
	c.pass.Objects++
	return o, differs, true, nil
}

// before reports whether an object is before another one in lists.
func before(a, b disk.Object) bool {
	x, y := [3]uint64{a.Hash(), a.Family, a.Index}, [3]uint64{b.Hash(), b.Family, b.Index}
	return slices.Compare(x[:], y[:]) < 0
}

// A version of an object on a member, at rest.
type standing struct {
	m     record.Member
	state disk.State
}

// object looks closer at an object that members seem to have differently.
func (c *comparison) object(ctx context.Context, o disk.Object) error {
	if _, ok := c.k.c.State.View().Deletions.Get(o.Family); ok {
		return nil // disks are not equally far with it
	}
	first, rests, err := c.standings(ctx, o)
	if err != nil || !rests || same(first) {
		return err
	}
	equal, err := c.readsSame(ctx, o)
	if err != nil || equal {
		return err
	}
	// Nothing has happened in between, and what has been read so belongs together.
	second, rests, err := c.standings(ctx, o)
	if err != nil || !rests || !slices.Equal(first, second) {
		return err
	}
	if _, ok := c.k.c.State.View().Deletions.Get(o.Family); ok {
		return nil
	}
	return c.diverged(ctx, o, first)
}

// standings asks all members for the state of an object, and whether it rests: it is dirty
// nowhere.
func (c *comparison) standings(ctx context.Context, o disk.Object) (list []standing, rests bool, err error) {
	for _, m := range c.rec.Members {
		peer, to := c.k.c.Peer(m), c.to(m)
		dirty, _, err := peer.Dirty(ctx, to, o.Hash())
		if err != nil {
			return nil, false, err
		}
		for _, d := range dirty {
			if d.Object == o {
				return nil, false, nil
			}
		}
		all, _, err := peer.List(ctx, to, o.Hash())
		if err != nil {
			return nil, false, err
		}
		s := standing{m: m}
		for _, x := range all {
			if x.Object == o {
				s.state = x.State
			}
		}
		list = append(list, s)
	}
	return list, true, nil
}

func same(list []standing) bool {
	for _, s := range list {
		if s.state.Digest != list[0].state.Digest {
			return false
		}
	}
	return true
}

// readsSame reports whether all versions that can be read have the same content on all
// members: a deletion may have left the same in different versions.
func (c *comparison) readsSame(ctx context.Context, o disk.Object) (bool, error) {
	f, ok := c.k.c.State.View().Families.Get(o.Family)
	if !ok {
		return true, nil
	}
	tree, err := f.Tree()
	if err != nil {
		return false, err
	}
	doomed := slices.ContainsFunc(tree.Versions(), func(v family.Version) bool { return v.Doomed })
	if !doomed {
		return false, nil
	}
	var first map[reading]disk.Entry
	for i, m := range c.rec.Members {
		list, err := c.k.c.Peer(m).Entries(ctx, c.to(m), o, 0, disk.MaxObject/disk.BlockSize)
		if err != nil {
			return false, err
		}
		all := readings(tree, list)
		if i == 0 {
			first = all
		}
		if len(all) != len(first) {
			return false, nil
		}
		for r, e := range all {
			if first[r] != e {
				return false, nil
			}
		}
	}
	return true, nil
}

// reading is what a version reads at a block.
type reading struct {
	version uint64
	block   uint32
}

// readings returns what versions that are not doomed read, where they read data.
func readings(tree *family.Tree, list []disk.Entry) map[reading]disk.Entry {
	blocks := map[uint32]map[uint64]disk.Entry{}
	for _, e := range list {
		if blocks[e.Block] == nil {
			blocks[e.Block] = map[uint64]disk.Entry{}
		}
		blocks[e.Block][e.Version] = e
	}
	all := map[reading]disk.Entry{}
	for _, v := range tree.Versions() {
		if v.Doomed {
			continue
		}
		for block, entries := range blocks {
			at := v
			for {
				if e, ok := entries[at.ID]; ok {
					if e.Kind == disk.Data {
						all[reading{v.ID, block}] = disk.Entry{Kind: e.Kind, Sum: e.Sum}
					}
					break
				}
				if at.Parent == 0 {
					break
				}
				at, _ = tree.Version(at.Parent)
			}
		}
	}
	return all
}

// diverged deals with an object that members have differently, although nothing has
// been written: those with the rarer digest, or later in the record, have to join again.
func (c *comparison) diverged(ctx context.Context, o disk.Object, list []standing) error {
	count := map[uint64]int{}
	for _, s := range list {
		count[s.state.Digest]++
	}
	right := list[0].state.Digest
	for _, s := range list {
		if count[s.state.Digest] > count[right] {
			right = s.state.Digest
		}
	}
	var errs []string
	for _, s := range list {
		if s.state.Digest == right {
			continue
		}
		c.pass.Bad++
		err := fmt.Errorf("disk %s has object %v with digest %016x, %d of %d disks have %016x", s.m.Disk, o, s.state.Digest, count[right], len(list), right)
		errs = append(errs, err.Error())
		if c.report != nil {
			c.report(err)
		}
		if !c.mend {
			continue
		}
		if _, err := c.k.Renew(ctx, c.group, s.m); err != nil {
			return err
		}
		c.pass.Mended++
	}
	c.k.c.Log.Error("copies of an object differ", "group", c.group, "found", errs, "mended", c.mend)
	// The record has changed.
	if c.mend {
		return fmt.Errorf("group %d: %w", c.group, replica.ErrEpoch)
	}
	return nil
}
