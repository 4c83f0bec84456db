package steward

import (
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// holdFor is how long a disk does not join a group again from which it was removed
// while it lived and joined: whoever removed it had a reason, a full disk for example.
const holdFor = time.Minute

// An Observer makes facts from what is agreed. It knows since when things are as
// they are from having seen it, so that one that has been there for long knows more.
// The zero value is one that has seen nothing.
type Observer struct {
	// Used says how many bytes of a disk are used, 0 if nobody knows. It may be nil.
	Used func(disk string) int64

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
	f := &Facts{Now: now, Nodes: o.nodes, Disks: make(map[string]Disk, v.Disks.Len()), Groups: make([]Group, 0, v.Groups.Len())}
	for id, e := range v.Disks.All() {
		d := Disk{Disk: e.Record}
		if o.Used != nil {
			d.Used = o.Used(id)
		}
		f.Disks[id] = d
	}
	least := minCopies(v)
	for number, e := range v.Groups.All() {
		g := Group{Number: number, Epoch: e.Revision, Record: e.Record}
		g.MinCopies = least[g.Copies()]
		f.Groups = append(f.Groups, g)
	}
	o.hold(f)
	f.Held = o.held
	return f
}

// minCopies returns how many members writes need, by the number of copies: volumes
// with as many share their groups, so that the most careful of them decides.
func minCopies(v *record.View) (least [record.MaxCopies + 1]int) {
	for _, f := range v.Families.All() {
		if c := f.Volume.Record.Copies; f.Volume.Revision != 0 && c < len(least) {
			least[c] = max(least[c], f.Volume.Record.MinCopies)
		}
	}
	return least
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
				held[Hold{was.Number, m.Disk}] = f.Now + holdFor
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
