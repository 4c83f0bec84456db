package record

import (
	"math/bits"

	"github.com/strata-storage/strata/cluster/place"
)

// groupBits of the number of a group are its index, those above the copies.
var groupBits = bits.TrailingZeros(place.MaxGroups)

// GroupOf returns the number of a group: there are as many as the pool says for
// each number of copies. Volumes of different copies have different members, so
// they have different groups.
func GroupOf(copies, index int) int { return copies<<groupBits | index }

// SplitGroup is the reverse of GroupOf.
func SplitGroup(group int) (copies, index int) {
	return group >> groupBits, group & (place.MaxGroups - 1)
}

// Group returns the number of the group that has the volume's objects of that
// hash, in a pool of so many groups.
func (v Volume) Group(hash uint64, groups int) int {
	return GroupOf(v.Copies, place.Index(hash, groups))
}

func checkGroup(n uint64) error {
	if copies := n >> groupBits; copies < 1 || copies > MaxCopies {
		return invalid("group %#x is of %d copies, expected 1 to %d", n, copies, MaxCopies)
	}
	return nil
}

// Placement returns where groups should be. Disks that have failed, of nodes that
// are draining or not known, and those that out says are out, which may be nil, have
// no weight.
func (v *View) Placement(out func(Disk) bool) (*place.Map, error) {
	disks := make([]place.Disk, 0, v.Disks.Len())
	for id, e := range v.Disks.All() {
		d := e.Record
		node, known := v.Nodes.Get(d.Node)
		if !known || node.Record.Draining || d.Failed != "" || out != nil && out(d) {
			d.Weight = 0
		}
		disks = append(disks, place.Disk{ID: id, Node: d.Node, Zone: node.Record.Zone, Weight: d.Weight})
	}
	return place.New(disks)
}
