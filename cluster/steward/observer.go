package steward

import (
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
	held  map[Hold]time.Duration
	// own are the last changes of our own.
	own map[int]ownChange
}

// An ownChange is what a change of our own has made of a group.
type ownChange struct {
	epoch   coord.Revision
	joining []record.Member
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
	f.Held = o.held
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
	o.own[group] = ownChange{epoch, r.Joining}
}

// fullHolds is how many times longer a disk is held that stays full.
const fullHolds = 9

// hold finds out who was removed by others while it was joining, or full.
func (o *Observer) hold(f *Facts) {
	pause := Options{Hold: o.Hold}.withDefaults().Hold
	held := map[Hold]time.Duration{}
	for h, until := range o.held {
		// The reason may be gone with a process: before its lease was over, one that
		// had been killed seemed to live.
		// One that is full may have what it needs all the same.
		last := until
		if f.Disks[h.Disk].Full {
			last += fullHolds * pause
		}
		if last > f.Now && f.since(h.Disk) <= until-pause {
			held[h] = until
		}
	}
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
		joining := was.Record.Joining
		if own.epoch > was.Epoch && own.epoch < f.Groups[i].Epoch {
			joining = own.joining
		}
		is := f.Groups[i].Record
		for _, m := range slices.Concat(joining, f.full(was.Record.Members)) {
			if f.lives(m) && !slices.Contains(is.Joining, m) && !slices.Contains(is.Members, m) {
				held[Hold{was.Number, m.Disk}] = f.Now + pause
			}
		}
	}
	for _, g := range f.Groups {
		if own, ok := o.own[g.Number]; ok && g.Epoch >= own.epoch {
			delete(o.own, g.Number)
		}
	}
	o.last, o.held = f.Groups, held
}

// full are those of the members whose disks are.
func (f *Facts) full(members []record.Member) (full []record.Member) {
	for _, m := range members {
		if f.Disks[m.Disk].Full {
			full = append(full, m)
		}
	}
	return full
}
