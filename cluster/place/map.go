package place

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// ErrDisks is wrapped by the errors of New.
var ErrDisks = errors.New("these cannot be the disks of a cluster")

// A Disk is what placement knows of a disk.
type Disk struct {
	// ID must be another one for each disk, and Node say which of them have to do
	// without each other. Neither is empty.
	ID, Node string
	// Zone is what fails together, the same for all disks of a node. An empty one
	// stands for a zone of the node's own.
	Zone string
	// Weight is how much it gets in proportion to others, its capacity for
	// example. With 0 it gets nothing.
	Weight int64
}

// A Map places groups on disks. It does not change, and may be used by any number
// of goroutines.
type Map struct {
	disks []drawer // that have a weight, node by node
	nodes []node
	zones int
	pool  sync.Pool // of *scratch
}

// drawer is a disk.
type drawer struct {
	id     string
	seed   uint64
	weight uint64
}

// node has its disks up to end, those of the node before it excluded.
type node struct {
	end, zone int
}

// scratch is the memory of one choice.
type scratch struct {
	best   []draw // by node
	chosen []int  // by zone
}

// draw is what a disk has drawn. Without a weight it is out.
type draw struct {
	cost, weight uint64
	disk         int
}

// New returns the map of these disks, in any order.
func New(disks []Disk) (*Map, error) {
	sorted := slices.Clone(disks)
	slices.SortFunc(sorted, func(a, b Disk) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ID, b.ID))
	})
	if err := check(sorted); err != nil {
		return nil, err
	}
	m := &Map{}
	zones := map[[2]string]int{}
	last := ""
	for _, d := range sorted {
		if d.Weight == 0 {
			continue
		}
		zone := [2]string{d.Zone, ""}
		if d.Zone == "" {
			zone[1] = d.Node
		}
		if _, known := zones[zone]; !known {
			zones[zone] = len(zones)
		}
		if d.Node != last {
			m.nodes, last = append(m.nodes, node{zone: zones[zone]}), d.Node
		}
		m.disks = append(m.disks, drawer{d.ID, seedOf(d.ID), uint64(d.Weight)})
		m.nodes[len(m.nodes)-1].end = len(m.disks)
	}
	m.zones = len(zones)
	m.pool.New = func() any { return &scratch{make([]draw, len(m.nodes)), make([]int, m.zones)} }
	return m, nil
}

// check looks at disks that are sorted by node.
func check(disks []Disk) error {
	ids := make(map[string]bool, len(disks))
	for i, d := range disks {
		switch {
		case d.ID == "" || d.Node == "":
			return fmt.Errorf("disk %q of node %q, expected an ID and a node: %w", d.ID, d.Node, ErrDisks)
		case ids[d.ID]:
			return fmt.Errorf("disk %s is there twice: %w", d.ID, ErrDisks)
		case d.Weight < 0:
			return fmt.Errorf("disk %s has the weight %d, expected 0 or more: %w", d.ID, d.Weight, ErrDisks)
		case i > 0 && disks[i-1].Node == d.Node && disks[i-1].Zone != d.Zone:
			return fmt.Errorf("node %s is in the zones %q and %q, expected one: %w", d.Node, disks[i-1].Zone, d.Zone, ErrDisks)
		}
		ids[d.ID] = true
	}
	return nil
}

// Reach returns on how many disks, and in how many zones, groups with so many
// copies are.
func (m *Map) Reach(copies int) (disks, zones int) {
	return min(copies, len(m.nodes)), min(copies, m.zones)
}

// Disks returns the IDs of the disks that should have a group, the best one first.
// They are fewer than copies if there are fewer nodes that have a disk with a
// weight.
func (m *Map) Disks(group uint64, copies int) []string {
	copies, _ = m.Reach(copies)
	if copies <= 0 {
		return nil
	}
	s := m.pool.Get().(*scratch)
	defer m.pool.Put(s)
	m.drawAll(group, s.best)
	clear(s.chosen)
	ids := make([]string, 0, copies)
	// In no zone were fewer chosen than that many, if it has a node left.
	for level := 0; len(ids) < copies; {
		n := m.first(s, level)
		if n < 0 {
			level++
			continue
		}
		ids = append(ids, m.disks[s.best[n].disk].id)
		s.best[n].weight = 0
		s.chosen[m.nodes[n].zone]++
	}
	return ids
}

// drawAll finds the best disk of each node. No other disk of it can be chosen.
func (m *Map) drawAll(group uint64, best []draw) {
	group = mix(group)
	disk := 0
	for i := range m.nodes {
		best[i] = draw{}
		for ; disk < m.nodes[i].end; disk++ {
			d := draw{cost(mix(group^m.disks[disk].seed) | 1), m.disks[disk].weight, disk}
			if m.before(&d, &best[i]) {
				best[i] = d
			}
		}
	}
}

// first returns the node with the best disk, of those in zones of which so many
// disks have been chosen. It returns -1 if there is none.
func (m *Map) first(s *scratch, level int) int {
	found, best := -1, draw{}
	for i := range s.best {
		d := &s.best[i]
		if d.weight > 0 && s.chosen[m.nodes[i].zone] == level && m.before(d, &best) {
			found, best = i, *d
		}
	}
	return found
}

// before says whether a disk that is not out is before another one, which may be.
func (m *Map) before(a, b *draw) bool {
	if b.weight == 0 {
		return true
	}
	ahi, alo := bits.Mul64(a.cost, b.weight)
	bhi, blo := bits.Mul64(b.cost, a.weight)
	if ahi != bhi {
		return ahi < bhi
	}
	if alo != blo {
		return alo < blo
	}
	return m.disks[a.disk].id < m.disks[b.disk].id
}
