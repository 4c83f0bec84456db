package place

import (
	"cmp"
	"slices"
)

// A Change is one change of who has a group.
type Change struct {
	// Kind says what happens, Disk to whom.
	Kind Kind
	Disk string
}

// A Kind is a kind of changes.
type Kind uint8

// The kinds.
const (
	// None: it is as it should be, or something has to end first.
	None Kind = iota
	// Join: the disk joins; it becomes a member by itself when it has all.
	Join
	// Leave: the disk is a member too many.
	Leave
	// Cancel: the disk is joining, and need not any more.
	Cancel
)

// String is the name of the kind in lower case.
func (k Kind) String() string {
	return [...]string{"none", "join", "leave", "cancel"}[k&3]
}

// A State is who has a group, and who should.
type State struct {
	// Group is its number, Members and Joining are the disks that have it, or are
	// about to.
	Group            int
	Members, Joining []string
	// Wish are the disks that should have it, see [Map.Disks].
	Wish []string
}

// Next returns the next change towards the wish. One disk joins at a time, or as
// many as there are copies missing, and nobody leaves as long as that leaves fewer members than are wished for; those
// who join do not count. So the copies are never fewer than they were or should
// be, and a group that moves has one too many at most. A wish for no disk at all
// changes nothing: who has the data keeps them.
//
// Members are taken for living: who finds one dead removes it first. A group without
// members is none; it begins with the wish as its members.
func Next(s State) Change {
	if len(s.Wish) == 0 || len(s.Members) == 0 {
		return Change{}
	}
	for _, d := range s.Joining {
		if !slices.Contains(s.Wish, d) {
			return Change{Cancel, d}
		}
	}
	// The last member goes first: the first one is the source of others.
	for _, d := range slices.Backward(s.Members) {
		if len(s.Members) > len(s.Wish) && !slices.Contains(s.Wish, d) {
			return Change{Leave, d}
		}
	}
	if len(s.Joining) >= max(1, s.lacks()) {
		return Change{}
	}
	for _, d := range s.Wish {
		if !slices.Contains(s.Members, d) && !slices.Contains(s.Joining, d) {
			return Change{Join, d}
		}
	}
	return Change{}
}

// lacks is how many copies are missing.
func (s State) lacks() int { return max(len(s.Wish)-len(s.Members), 0) }

// first is the member that is the source of others.
func (s State) first() string {
	if len(s.Members) == 0 {
		return ""
	}
	return s.Members[0]
}

// Limits say how much may go on at the same time. 0 is no limit.
type Limits struct {
	// Joins is how many disks may be joining groups in the whole cluster, Disk
	// how many groups a disk may be joining, and Source how many may be read from
	// a disk, which is the first member of the group that somebody joins.
	Joins, Disk, Source int
}

// A Move is a change of a group.
type Move struct {
	Group int
	Change
}

// Plan returns the changes that may be made now. Groups that miss copies come
// first, those that miss most of all; then those that have them and are to move.
// Leaving and cancelling costs nothing and is not limited. If several changes are
// due for one group, the later ones are planned when the earlier ones are done.
func Plan(groups []State, l Limits) []Move {
	order := slices.Clone(groups)
	slices.SortStableFunc(order, func(a, b State) int {
		return cmp.Or(cmp.Compare(b.lacks(), a.lacks()), cmp.Compare(len(a.Members), len(b.Members)), cmp.Compare(a.Group, b.Group))
	})
	use := usage{limits: l, disk: map[string]int{}, source: map[string]int{}}
	for _, g := range groups {
		for _, d := range g.Joining {
			use.add(g, d)
		}
	}
	var moves []Move
	for _, g := range order {
		c := Next(g)
		if c.Kind == Join {
			if !use.allows(g, c.Disk) {
				continue
			}
			use.add(g, c.Disk)
		}
		if c.Kind != None {
			moves = append(moves, Move{g.Group, c})
		}
	}
	return moves
}

// usage counts what goes on.
type usage struct {
	limits       Limits
	joins        int
	disk, source map[string]int
}

func (u *usage) add(g State, disk string) {
	u.joins++
	u.disk[disk]++
	u.source[g.first()]++
}

func (u *usage) allows(g State, disk string) bool {
	below := func(n, limit int) bool { return limit <= 0 || n < limit }
	return below(u.joins, u.limits.Joins) && below(u.disk[disk], u.limits.Disk) &&
		below(u.source[g.first()], u.limits.Source)
}
