package record

import "sync"

// Majority is how many disks need to have each write if nobody said anything else.
func Majority(copies int) int { return copies/2 + 1 }

// needs is how many disks need to have each write, by the number of copies. It is made
// when somebody wants it.
type needs struct {
	once sync.Once
	list [MaxCopies + 1]int
}

// Needed returns how many disks need to have each write of the volumes with so many
// copies before it is acknowledged, and how many members of their groups remain when
// one is removed. They share the groups, so that the most careful of them decides; if
// there is none, it is more than half of the copies.
//
// But it is no more than there are nodes for copies, so that a cluster that is smaller
// than that works. A disk that has failed and a node that is away count all the same:
// that they are of no use does not make fewer copies enough. That is for an operator to
// say, who drains them, gives them no weight, or takes them out of the cluster.
func (v *View) Needed(copies int) int {
	if copies < 1 || copies > MaxCopies {
		return max(1, Majority(copies))
	}
	v.needs.once.Do(func() { v.needs.fill(v, v.counts) })
	return v.needs.list[copies]
}

// NeededIf is what Needed would be, by the number of copies, if those disks were there for
// copies that counts says, rather than those that are.
func (v *View) NeededIf(counts func(id string, d Disk) bool) []int {
	var n needs
	n.fill(v, counts)
	return n.list[:]
}

// counts reports whether a disk is there for copies.
func (v *View) counts(_ string, d Disk) bool {
	node, known := v.Nodes.Get(d.Node)
	return known && d.Weight > 0 && !node.Record.Draining
}

func (n *needs) fill(v *View, counts func(id string, d Disk) bool) {
	nodes := map[string]bool{}
	for id, d := range v.Disks.All() {
		if counts(id, d.Record) {
			nodes[d.Record.Node] = true
		}
	}
	for _, f := range v.Families.All() {
		if c := f.Volume.Record.Copies; f.Volume.Revision != 0 && c < len(n.list) {
			n.list[c] = max(n.list[c], f.Volume.Record.MinCopies)
		}
	}
	for c := range n.list {
		if n.list[c] == 0 {
			n.list[c] = Majority(c)
		}
		n.list[c] = max(1, min(n.list[c], len(nodes)))
	}
}

// Hosts returns how many nodes there are for copies of a group, each of which is on another
// one. Those that are away for a while count.
func (v *View) Hosts() int {
	nodes := map[string]bool{}
	for id, d := range v.Disks.All() {
		if v.counts(id, d.Record) && d.Record.Failed == "" {
			nodes[d.Record.Node] = true
		}
	}
	return len(nodes)
}
