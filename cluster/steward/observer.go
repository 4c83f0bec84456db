package steward

import (
	"cmp"
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// An Observer makes facts from what is agreed. It knows since when things are as
// they are from having seen it, so that one that has been there for long knows more.
// The zero value is one that has seen nothing.
type Observer struct {
	// Used says how many bytes of a disk are used, 0 if nobody knows. It may be nil.
	Used func(disk string) int64
	// Full says whether a disk has said that it has no room. It may be nil.
	Full func(disk string) bool
	// Hold is that of Options.
	Hold time.Duration

	nodes map[string]Node
	last  []Group // of the last facts
	held  map[Hold]*held
	// own are the last changes of our own.
	own map[int]ownChange
}

// A held disk is one that was removed from a group by others though it lived.
type held struct {
	// pause is how long it was held the last time, until is when that is over.
	pause, until time.Duration
	// member is since when it has been a member again, if it is.
	member time.Duration
}

// firstHold is how long a disk is held at first.
const firstHold = time.Second

// fullHolds is for how many times longer a disk is kept out that stays full.
const fullHolds = 9

// An ownChange is what a change of our own has made of a group.
type ownChange struct {
	epoch  coord.Revision
	record record.Group
}

// See looks at a view, at a time of the clock of all other ones.
func (o *Observer) See(v *record.View, now time.Duration) {
	nodes := make(map[string]Node, v.Nodes.Len())
	for id, e := range v.Nodes.All() {
		run, _ := v.Runs.Get(id)
		was, known := o.nodes[id]
		n := Node{Node: e.Record, Incarnation: run.Record.Incarnation, Since: now}
		if known && was.Incarnation == n.Incarnation {
			n.Since = was.Since
		}
		nodes[id] = n
	}
	o.nodes = nodes
}

// Facts returns what is known at that time, when the view is the newest.
func (o *Observer) Facts(v *record.View, now time.Duration) *Facts {
	o.See(v, now)
	f := &Facts{Now: now, Nodes: o.nodes, Disks: o.disks(v), Groups: make([]Group, 0, v.Groups.Len())}
	for number, e := range v.Groups.All() {
		g := Group{Number: number, Epoch: e.Revision, Record: e.Record}
		g.MinCopies = v.Needed(g.Copies())
		f.Groups = append(f.Groups, g)
	}
	o.hold(f)
	return f
}

// disks returns the disks of a view.
func (o *Observer) disks(v *record.View) map[string]Disk {
	disks := make(map[string]Disk, v.Disks.Len())
	for id, e := range v.Disks.All() {
		d := Disk{Disk: e.Record}
		if o.Used != nil {
			d.Used = o.Used(id)
		}
		if o.Full != nil {
			d.Full = o.Full(id)
		}
		disks[id] = d
	}
	return disks
}

// did notes what a change of our own has made.
func (o *Observer) did(group int, epoch coord.Revision, r record.Group) {
	if o.own == nil {
		o.own = map[int]ownChange{}
	}
	o.own[group] = ownChange{epoch, r}
}

// hold finds out who was removed by others while it lived, and is held.
func (o *Observer) hold(f *Facts) {
	if o.held == nil {
		o.held = map[Hold]*held{}
	}
	o.forgive(f)
	i := 0
	for _, was := range o.last {
		for i < len(f.Groups) && f.Groups[i].Number < was.Number {
			i++
		}
		if i == len(f.Groups) || f.Groups[i].Number != was.Number || f.Groups[i].Epoch == was.Epoch {
			continue
		}
		own := o.own[was.Number]
		if f.Groups[i].Epoch == own.epoch {
			continue
		}
		// Others may have been faster than this look.
		before := was.Record
		if own.epoch > was.Epoch && own.epoch < f.Groups[i].Epoch {
			before = own.record
		}
		is := f.Groups[i].Record
		for _, m := range slices.Concat(before.Members, before.Joining) {
			same := func(o record.Member) bool { return o.Disk == m.Disk }
			if f.lives(m) && !slices.ContainsFunc(is.Joining, same) && !slices.ContainsFunc(is.Members, same) {
				o.keepOut(f, Hold{was.Number, m.Disk})
			}
		}
	}
	for _, g := range f.Groups {
		if own, ok := o.own[g.Number]; ok && g.Epoch >= own.epoch {
			delete(o.own, g.Number)
		}
	}
	o.last = f.Groups
	f.Held = make(map[Hold]time.Duration, len(o.held))
	for h, is := range o.held {
		f.Held[h] = is.until
	}
}

// keepOut holds a disk, twice as long as the last time: whoever has removed it will do so
// again as long as there is the reason.
func (o *Observer) keepOut(f *Facts, h Hold) {
	longest := Options{Hold: o.Hold}.withDefaults().Hold
	pause := min(firstHold, longest)
	if was := o.held[h]; was != nil {
		pause = min(2*was.pause, longest)
	}
	o.held[h] = &held{pause: pause, until: f.Now + pause}
}

// forgive forgets who was removed, if the reason seems to be gone: its process is another
// one, as before its lease was over one that had been killed seemed to live; or it has
// been a member for as long as it was held. What does not join any more is forgotten, too;
// one that stays full may have what it needs all the same.
func (o *Observer) forgive(f *Facts) {
	longest := Options{Hold: o.Hold}.withDefaults().Hold
	for h, is := range o.held {
		if f.member(h) {
			if is.member == 0 {
				is.member = f.Now
			}
		} else {
			is.member = 0
		}
		rest := longest
		if f.Disks[h.Disk].Full {
			rest *= fullHolds
		}
		switch {
		case f.since(h.Disk) > is.until-is.pause,
			is.member != 0 && f.Now-is.member >= is.pause,
			f.Now >= is.until+rest && is.member == 0:
			delete(o.held, h)
		}
	}
}

// member reports whether a disk is a member of a group.
func (f *Facts) member(h Hold) bool {
	i, found := slices.BinarySearchFunc(f.Groups, h.Group, func(g Group, number int) int { return cmp.Compare(g.Number, number) })
	return found && slices.ContainsFunc(f.Groups[i].Record.Members, func(m record.Member) bool { return m.Disk == h.Disk })
}
