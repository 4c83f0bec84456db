package steward

import (
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// Facts are what is known of a cluster at one moment.
type Facts struct {
	// Now is the time of some clock, to which all others here belong.
	Now time.Duration
	// Nodes and Disks are by ID.
	Nodes map[string]Node
	Disks map[string]Disk
	// Groups are in the order of their numbers.
	Groups []Group
	// Held says until when a disk shall not join a group again, as it has just
	// been removed by others while it lived; and longer if it is full then.
	Held map[Hold]time.Duration
}

// A Node is a node, and how it is.
type Node struct {
	record.Node
	// Incarnation is that of its process, empty if it does not run.
	Incarnation string
	// Since is since when it runs in that incarnation, or does not run.
	Since time.Duration
}

// A Disk is a disk, and how full it is.
type Disk struct {
	record.Disk
	// Used is how many bytes of it are, 0 if nobody knows.
	Used int64
	// Full: it has said that it has no room for what is new.
	Full bool
}

// A Group is who has the objects of a placement group.
type Group struct {
	// Number says how many copies there are to be, see [record.SplitGroup].
	Number int
	Epoch  coord.Revision
	Record record.Group
	// MinCopies is how many disks writes need, see [record.View.Needed]: no fewer
	// members remain when one is removed. 0 is a majority of the copies.
	MinCopies int
}

// holds reports whether a disk shall not join a group yet.
func (f *Facts) holds(h Hold) bool {
	until, held := f.Held[h]
	return held && (until > f.Now || f.Disks[h.Disk].Full)
}

// A Hold is a disk that shall not join a group for a while.
type Hold struct {
	Group int
	Disk  string
}

// Copies is how many copies the group is to have.
func (g *Group) Copies() int { return copiesOf(g.Number) }

func copiesOf(group int) int {
	copies, _ := record.SplitGroup(group)
	return copies
}

// min is how many members there have to be.
func (g *Group) min() int {
	if g.MinCopies > 0 {
		return g.MinCopies
	}
	return record.Majority(g.Copies())
}

// A Condition is what a member or joining disk of a group is like.
type Condition uint8

// The conditions.
const (
	// Lives: its process runs in the incarnation that the record names.
	Lives Condition = iota
	// Back: it runs in another one, and has to join, or to be revived.
	Back
	// Away: its node does not run.
	Away
	// Gone: the disk has failed, or was expelled.
	Gone
)

// String is the name of the condition in lower case.
func (c Condition) String() string { return [...]string{"lives", "back", "away", "gone"}[c&3] }

// Condition returns what a member or joining disk is like.
func (f *Facts) Condition(m record.Member) Condition {
	d, known := f.Disks[m.Disk]
	n, placed := f.Nodes[d.Node]
	switch {
	case !known || !placed || d.Failed != "":
		return Gone
	case n.Incarnation == "":
		return Away
	case n.Incarnation != m.Incarnation:
		return Back
	}
	return Lives
}

// lives reports whether a member does.
func (f *Facts) lives(m record.Member) bool { return f.Condition(m) == Lives }

// incarnation is the one in which a disk can join a group now, empty if it cannot.
func (f *Facts) incarnation(disk string) string {
	d, known := f.Disks[disk]
	if !known || d.Failed != "" {
		return ""
	}
	return f.Nodes[d.Node].Incarnation
}

// zone is what fails together with a disk.
func (f *Facts) zone(disk string) string { return f.Nodes[f.Disks[disk].Node].Zone }

// since is since when the node of a disk is as it is.
func (f *Facts) since(disk string) time.Duration { return f.Nodes[f.Disks[disk].Node].Since }

// awayFor reports whether a node has been away for at least that time.
func (f *Facts) awayFor(n Node, d time.Duration) bool {
	return n.Incarnation == "" && f.Now-n.Since >= d
}
