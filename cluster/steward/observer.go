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
	// Hold is that of Options.
	Hold time.Duration

	nodes map[string]Node
	last  []Group // of the last facts
	held  map[Hold]time.Duration
	// own are the epochs that changes of our own have made.
	own map[int]coord.Revision
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
		disks[id] = d
	}
	return disks
}

// did notes that a change of our own has made that epoch.
func (o *Observer) did(group int, epoch coord.Revision) {
	if o.own == nil {
		o.own = map[int]coord.Revision{}
	}
	o.own[group] = epoch
}

// hold finds out who was removed by others while it was joining.
func (o *Observer) hold(f *Facts) {
	held := map[Hold]time.Duration{}
	for h, until := range o.held {
		if until > f.Now {
			held[h] = until
		}
	}
	i := 0
	for _, was := range o.last {
		for i < len(f.Groups) && f.Groups[i].Number < was.Number {
			i++
		}
		if i == len(f.Groups) || f.Groups[i].Number != was.Number || f.Groups[i].Epoch == was.Epoch || f.Groups[i].Epoch == o.own[was.Number] {
			continue
		}
		is := f.Groups[i].Record
		for _, m := range was.Record.Joining {
			if f.lives(m) && !slices.Contains(is.Joining, m) && !slices.Contains(is.Members, m) {
				held[Hold{was.Number, m.Disk}] = f.Now + Options{Hold: o.Hold}.withDefaults().Hold
			}
		}
	}
	for _, g := range f.Groups {
		if own, ok := o.own[g.Number]; ok && g.Epoch >= own {
			delete(o.own, g.Number)
		}
	}
	o.last, o.held = f.Groups, held
}
