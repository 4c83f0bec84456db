package steward

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/cluster/record"
)

// A Planner says what is to be changed. It remembers nothing but what follows from
// the facts, so that it answers the same whoever asked before. It must not be used by
// two goroutines at a time.
type Planner struct {
	// Options must not be changed once it is used.
	Options
	wish, soon, roomy wishes
}

// The urgencies of changes.
const (
	now = iota
	missing
	surplus
	moving
)

// A proposal is a change, or a disk that is to join.
type proposal struct {
	urgency int
	// emptying: a member is to be empty.
	emptying bool
	scene    *scene
	change   *Change
	join     []string // one of them
}

// Plan returns the changes that may be made now, at most one for each group, the most
// urgent first. What is due for a group after that is planned from the facts
// that show it.
func (p *Planner) Plan(f *Facts) ([]Change, error) {
	o := p.withDefaults()
	if err := p.update(f, &o); err != nil {
		return nil, err
	}
	use := usage{o: &o, disk: map[string]int{}, source: map[string]int{}}
	var proposals []proposal
	for i := range f.Groups {
		g := &f.Groups[i]
		if len(g.Record.Members) == 0 {
			continue
		}
		s := newScene(f, g, &o, p.wish.of(g), p.soon.of(g))
		s.roomy = p.roomy.of
		use.count(s)
		if pr := propose(s); pr.change != nil || len(pr.join) > 0 {
			proposals = append(proposals, pr)
		}
	}
	slices.SortStableFunc(proposals, compare)
	var plan []Change
	for _, pr := range proposals {
		if len(plan) >= o.Batch {
			break
		}
		if pr.change == nil {
			pr.change = use.join(pr)
		}
		if pr.change != nil {
			plan = append(plan, *pr.change)
		}
	}
	return plan, nil
}

// update finds out who should have groups.
func (p *Planner) update(f *Facts, o *Options) error {
	if err := p.wish.update(f, o.Grace); err != nil {
		return err
	}
	p.roomy.roomy = true
	return cmp.Or(p.soon.update(f, o.Urgent), p.roomy.update(f, o.Grace))
}

// Wish returns the disks that should have a group, the best one first.
func (p *Planner) Wish(f *Facts, g *Group) ([]string, error) {
	o := p.withDefaults()
	if err := p.update(f, &o); err != nil {
		return nil, err
	}
	return slices.Clone(p.wish.of(g)), nil
}

// propose returns what is to be done with a group next.
func propose(s *scene) proposal {
	if s.rests() {
		return proposal{}
	}
	if c := s.settle(); c != nil {
		return proposal{urgency: now, scene: s, change: c}
	}
	if s.living == 0 {
		return proposal{}
	}
	if c := cmp.Or(s.tidy(), s.cancel()); c != nil {
		return proposal{urgency: surplus, scene: s, change: c}
	}
	join, move := s.joiners()
	pr := proposal{urgency: missing, scene: s, join: join}
	if move {
		pr.urgency = moving
		pr.emptying = slices.ContainsFunc(s.Record.Members, func(m record.Member) bool { return s.emptying(m.Disk) })
	}
	return pr
}

// compare orders proposals by urgency, and those for copies that are missing by how
// many there still are.
func compare(a, b proposal) int {
	last := func(p proposal) int {
		switch {
		case p.urgency == missing:
			return p.scene.living
		case p.emptying:
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.urgency, b.urgency), cmp.Compare(last(a), last(b)))
}

// usage counts what goes on.
type usage struct {
	o            *Options
	joins, moves int
	disk, source map[string]int
}

// count counts the joining disks of a group, if anything can move there.
func (u *usage) count(s *scene) {
	for _, m := range s.Record.Joining {
		if s.lives(m) && s.lives(s.Record.Members[0]) {
			u.add(s, m.Disk, s.lacks() == 0)
		}
	}
}

func (u *usage) add(s *scene, disk string, move bool) {
	u.joins++
	u.disk[disk]++
	u.source[s.Record.Members[0].Disk]++
	if move {
		u.moves++
	}
}

// join returns the change in which one of the disks joins, if it may now.
func (u *usage) join(p proposal) *Change {
	s, move := p.scene, p.urgency == moving
	source := s.Record.Members[0].Disk
	// Where writes wait it is enough that a disk gets them, whenever it pulls the rest.
	blocked := s.blocked()
	if !blocked && (u.joins >= u.o.Joins || u.source[source] >= u.o.Source) {
		return nil
	}
	if move && (u.moves >= u.o.Moves || u.source[source] >= u.o.MovesDisk) {
		return nil
	}
	for _, d := range p.join {
		if !blocked && u.disk[d] >= u.o.Disk || move && u.disk[d] >= u.o.MovesDisk {
			continue
		}
		u.add(s, d, move)
		why := fmt.Sprintf("%d of %d copies live", s.living, len(s.wish))
		if move {
			why = "the group has its place there"
		}
		return s.change(Join, d, why, func(r *record.Group) { r.Joining = append(r.Joining, s.joiner(d)) })
	}
	return nil
}
