package upkeep

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

const (
	// maxFamilies is in how many families versions are deleted at the same time.
	maxFamilies = 64
	// Nodes are asked as often as that, less and less often while nothing comes of it.
	firstAsk = 20 * time.Millisecond
	lastAsk  = 2 * time.Second
	// askTime bounds how long a node may take to answer.
	askTime = 10 * time.Second
)

// A deleter is what a coordinator of deletions remembers.
type deleter struct {
	k *Keeper
	// seen are families as they were when they were looked at, and todo what of them
	// is doomed, the youngest first.
	seen map[uint64]*record.Family
	todo map[uint64][]uint64
	// kept are the versions that others need.
	kept map[uint64]map[uint64]bool
}

func (k *Keeper) newDeleter() *deleter {
	return &deleter{k: k, seen: map[uint64]*record.Family{}, todo: map[uint64][]uint64{}, kept: map[uint64]map[uint64]bool{}}
}

// leads reports whether this node coordinates.
func (k *Keeper) leads(v *record.View) bool {
	for node := range v.Runs.All() {
		return node == k.c.Node
	}
	return false
}

// coordinate is the goroutine that has versions deleted while this node coordinates.
func (k *Keeper) coordinate(ctx context.Context) {
	d, wait := k.newDeleter(), firstAsk
	forget := k.c.Store.Clock().Now() + k.o.Again
	for {
		v := k.c.State.View()
		if now := k.c.Store.Clock().Now(); now > forget || !k.leads(v) {
			// All that is kept is looked at again.
			d, forget = k.newDeleter(), now+k.o.Again
		}
		idle := k.o.Again
		if k.leads(v) {
			began := d.begin(ctx, v)
			ended := d.finish(ctx, v)
			if wait = min(2*wait, lastAsk); began || ended {
				wait = firstAsk
			}
			if v.Deletions.Len() > 0 || began {
				idle = wait
			}
		}
		k.pause(ctx, settle)
		if k.next(ctx, v, idle) != nil {
			return
		}
	}
}

// begin begins deletions in families that have something to delete, and no deletion.
func (d *deleter) begin(ctx context.Context, v *record.View) (began bool) {
	going := v.Deletions.Len()
	for id, f := range v.Families.All() {
		if d.seen[id] != f {
			d.look(id, f)
		}
		if _, ok := v.Deletions.Get(id); ok || len(d.todo[id]) == 0 || going >= maxFamilies {
			continue
		}
		_, err := d.k.catalog.Doom(ctx, f, d.todo[id][:min(len(d.todo[id]), record.MaxDeletion)])
		switch {
		case err == nil:
			began, going = true, going+1
		case !errors.Is(err, record.ErrConflict) && ctx.Err() == nil:
			d.k.c.Log.Warn("deleted versions have to wait", "error", err)
			return began
		}
	}
	for id := range d.seen {
		if _, ok := v.Families.Get(id); !ok {
			delete(d.seen, id)
			delete(d.todo, id)
			delete(d.kept, id)
		}
	}
	return began
}

// look finds out what is to be deleted in a family.
func (d *deleter) look(id uint64, f *record.Family) {
	d.seen[id] = f
	delete(d.todo, id)
	for vid, v := range f.Versions.All() {
		if v.Doomed && !d.kept[id][vid] {
			d.todo[id] = append(d.todo[id], vid)
		}
	}
	slices.Reverse(d.todo[id])
}

// A tally is what nodes have said of a deletion.
type tally struct {
	deletion record.Entry[record.Deletion]
	// waits is for how many disks of members nobody has answered yet; groups is when the
	// last record of a group was changed.
	members map[record.Member]bool
	groups  coord.Revision
	kept    map[uint64]bool
}

// finish ends deletions that all disks have done, and reports whether there were any.
func (d *deleter) finish(ctx context.Context, v *record.View) (ended bool) {
	tallies := map[uint64]*tally{}
	nodes := map[string]*askDeleted{}
	for family, e := range v.Deletions.All() {
		t := d.members(v, family, e)
		if t == nil {
			continue
		}
		tallies[family] = t
		asked := map[string]bool{}
		for m := range t.members {
			on, _ := v.Disks.Get(m.Disk)
			asked[on.Record.Node] = true
		}
		for node := range asked {
			if nodes[node] == nil {
				nodes[node] = &askDeleted{}
			}
			nodes[node].Deletions = append(nodes[node].Deletions, deletion{family, e.Revision})
		}
	}
	if len(tallies) == 0 {
		return false
	}
	d.askAll(ctx, v.Revision, nodes, tallies)
	maps.DeleteFunc(tallies, func(_ uint64, t *tally) bool { return len(t.members) > 0 })
	if len(tallies) == 0 {
		return false
	}
	now, err := d.k.newest(ctx)
	if err != nil {
		return false
	}
	for family, t := range tallies {
		if again := d.members(now, family, t.deletion); again == nil || again.groups != t.groups {
			continue
		}
		ended = d.end(ctx, now, family, t) || ended
	}
	return ended
}

// members returns a tally in which all members of groups that may have objects of a
// family have to answer, nil if the deletion cannot be ended now.
func (d *deleter) members(v *record.View, family uint64, e record.Entry[record.Deletion]) *tally {
	f, ok := v.Families.Get(family)
	is, there := v.Deletions.Get(family)
	if !ok || !there || is.Revision != e.Revision {
		return nil
	}
	t := &tally{deletion: e, members: map[record.Member]bool{}, groups: groupsRevision(v, family), kept: map[uint64]bool{}}
	for number, g := range v.Groups.All() {
		if copies, _ := record.SplitGroup(number); copies != f.Volume.Record.Copies {
			continue
		}
		if len(g.Record.Joining) > 0 {
			return nil
		}
		for _, m := range g.Record.Members {
			if !lives(v, m) {
				return nil
			}
			t.members[record.Member{Disk: m.Disk, Incarnation: m.Incarnation}] = true
		}
	}
	return t
}

// askAll asks nodes, and takes from the tallies who is done.
func (d *deleter) askAll(ctx context.Context, r coord.Revision, nodes map[string]*askDeleted, tallies map[uint64]*tally) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.k.c.Store.Clock().AfterFunc(askTime, cancel)()
	var all sync.WaitGroup
	var mu sync.Mutex
	for node, q := range nodes {
		all.Go(func() {
			a, err := d.k.ask(ctx, node, question{Revision: r, Deleted: q})
			if err != nil {
				d.k.c.Log.Debug("a node does not say whether versions are deleted", "node", node, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for disk, list := range a.Disks {
				for _, x := range list {
					t := tallies[x.Family]
					if t == nil || t.deletion.Revision != x.Revision {
						continue
					}
					delete(t.members, record.Member{Disk: disk, Incarnation: a.Incarnation})
					for _, version := range x.Kept {
						t.kept[version] = true
					}
				}
			}
		})
	}
	all.Wait()
}

// end forgets what no disk has anything of.
func (d *deleter) end(ctx context.Context, v *record.View, family uint64, t *tally) bool {
	var gone []uint64
	for _, version := range t.deletion.Record.Versions {
		if !t.kept[version] {
			gone = append(gone, version)
		}
	}
	for {
		f, ok := v.Families.Get(family)
		if !ok {
			return false
		}
		d.keep(family, f, gone, t.kept)
		done, err := d.k.catalog.Forget(ctx, f, t.deletion, gone)
		switch {
		case errors.Is(err, record.ErrConflict):
			return true // others have changed the family: once more, from the beginning
		case err != nil:
			d.k.c.Log.Warn("deleted versions have to wait", "family", family, "error", err)
			return false
		case done:
			d.k.c.Log.Debug("versions are deleted", "family", family, "gone", gone, "kept", len(t.kept))
			return true
		}
		if v, err = d.k.newest(ctx); err != nil {
			return false
		}
	}
}

// keep notes what others need, and that what others needed of versions that go may be
// needed no more of those above.
func (d *deleter) keep(family uint64, f *record.Family, gone []uint64, kept map[uint64]bool) {
	list := d.kept[family]
	if list == nil {
		list = map[uint64]bool{}
		d.kept[family] = list
	}
	for _, version := range gone {
		for up, ok := f.Versions.Get(version); ok; up, ok = f.Versions.Get(up.Parent) {
			delete(list, up.ID)
		}
	}
	maps.Copy(list, kept)
	delete(d.seen, family)
}
