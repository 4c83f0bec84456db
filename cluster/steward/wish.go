package steward

import (
	"slices"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/place"
	"github.com/strata-storage/strata/cluster/record"
)

// wishes are who should have the groups. They are kept for as long as the disks
// that count are the same: to find them out is most of the work of a plan.
type wishes struct {
	// roomy: disks that are full do not count.
	roomy bool
	disks []place.Disk
	m     *place.Map
	lists map[int][]string
}

// of returns who should have a group, the best one first.
func (w *wishes) of(g *Group) []string {
	list, ok := w.lists[g.Number]
	if !ok {
		copies, index := record.SplitGroup(g.Number)
		list = w.m.Disks(uint64(index), copies)
		w.lists[g.Number] = list
	}
	return list
}

// update makes them those of the facts, where nodes count that have not been away
// for that long.
func (w *wishes) update(f *Facts, grace time.Duration) error {
	disks := make([]place.Disk, 0, len(f.Disks))
	for id, d := range f.Disks {
		n, ok := f.Nodes[d.Node]
		if ok && d.Failed == "" && d.Weight > 0 && !n.Draining && !f.awayFor(n, grace) && !(w.roomy && d.Full) {
			disks = append(disks, place.Disk{ID: id, Node: d.Node, Zone: n.Zone, Weight: d.Weight})
		}
	}
	slices.SortFunc(disks, func(a, b place.Disk) int { return strings.Compare(a.ID, b.ID) })
	if w.m != nil && slices.Equal(disks, w.disks) {
		return nil
	}
	m, err := place.New(disks)
	if err != nil {
		return err
	}
	w.disks, w.m, w.lists = disks, m, map[int][]string{}
	return nil
}
