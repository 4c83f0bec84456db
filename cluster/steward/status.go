package steward

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// A State is how a group is, the better the less.
type State uint8

// The states.
const (
	// Healthy: it has all copies, where they should be.
	Healthy State = iota
	// Moving: it has all copies, and is to be elsewhere.
	Moving
	// Degraded: copies are missing.
	Degraded
	// AtRisk: one copy is left of several.
	AtRisk
	// Waiting: it can be read, and writes wait as too few disks have them.
	Waiting
	// Unavailable: no member lives.
	Unavailable
)

// String is the name of the state in lower case.
func (s State) String() string {
	if s > Unavailable {
		return "unknown"
	}
	return [...]string{"healthy", "moving", "degraded", "at risk", "waiting", "unavailable"}[s]
}

// A Report is how a cluster is.
type Report struct {
	// Groups is how many there are, and States how many of them are in each state.
	Groups int
	States [Unavailable + 1]int
	// Missing has the number of groups by how many copies they miss, 0 excluded.
	Missing map[int]int
	// Joining is how many disks are joining groups, and Due how many still have to.
	Joining, Due int
	// Unwell are the groups that are not healthy, the worst first.
	Unwell []GroupStatus
	// Risks is what an operator should know, in sentences, the worst first.
	Risks []string
}

// A GroupStatus is how a group is.
type GroupStatus struct {
	Number int
	Epoch  coord.Revision
	State  State
	// Missing is how many copies do not live.
	Missing int
	Members []MemberStatus
	Joining []MemberStatus
	// Text is a sentence on it.
	Text string
}

// A MemberStatus is how a member or joining disk is.
type MemberStatus struct {
	record.Member
	Node      string
	Condition Condition
}

// Status returns how the cluster is.
func (p *Planner) Status(f *Facts) (*Report, error) {
	o := p.withDefaults()
	if err := p.update(f, &o); err != nil {
		return nil, err
	}
	r := &Report{Groups: len(f.Groups), Missing: map[int]int{}}
	c := counts{map[string]int{}, map[string]int{}, map[string]int{}}
	for i := range f.Groups {
		s := newScene(f, &f.Groups[i], &o, p.wish.of(&f.Groups[i]), p.soon.of(&f.Groups[i]))
		g := s.status()
		r.States[g.State]++
		if g.Missing > 0 {
			r.Missing[g.Missing]++
		}
		r.Joining += s.coming
		for _, d := range s.wish {
			if !slices.ContainsFunc(slices.Concat(s.Record.Members, s.Record.Joining), func(m record.Member) bool { return m.Disk == d }) {
				r.Due++
			}
		}
		for _, m := range s.Record.Members {
			c.on[m.Disk]++
		}
		for _, d := range s.refuse() {
			c.less[d]++
		}
		for _, d := range s.stuck() {
			c.stuck[d]++
		}
		if g.State != Healthy {
			r.Unwell = append(r.Unwell, g)
		}
	}
	slices.SortStableFunc(r.Unwell, func(a, b GroupStatus) int {
		return cmp.Or(cmp.Compare(b.State, a.State), cmp.Compare(b.Missing, a.Missing))
	})
	r.Risks = slices.Concat(r.ofGroups(), f.ofNodes(&o, c), f.ofDisks(&o, c))
	return r, nil
}

// counts are numbers of groups by disk: that it has, that miss a copy as it has no room, and
// that it keeps though it is to have none.
type counts struct {
	on, less, stuck map[string]int
}

// status returns how the group is.
func (s *scene) status() GroupStatus {
	g := GroupStatus{
		Number: s.Number, Epoch: s.Epoch, Missing: max(s.Copies()-s.living, 0),
		Members: s.conditions(s.Record.Members), Joining: s.conditions(s.Record.Joining),
	}
	elsewhere := slices.ContainsFunc(s.wish, func(d string) bool {
		return !slices.ContainsFunc(s.Record.Members, func(m record.Member) bool { return m.Disk == d })
	})
	copies := fmt.Sprintf("%d of %d copies live", s.living, s.Copies())
	switch {
	case s.living == 0:
		g.State, g.Text = Unavailable, s.unavailable()
	case s.living < len(s.Record.Members) && s.living+s.coming < s.min():
		g.State = Waiting
		g.Text = fmt.Sprintf("Writes wait: %s, and writes need %d: %s.", copies, s.min(), s.fates(s.Record.Members))
	case s.living == 1 && s.Copies() > 1:
		g.State = AtRisk
		d := s.Record.Members[slices.IndexFunc(s.Record.Members, s.lives)].Disk
		g.Text = fmt.Sprintf("One copy is left, on disk %s of node %s.", d, s.Disks[d].Node)
	case g.Missing > 0:
		g.State, g.Text = Degraded, copies+"."
	case elsewhere || len(s.Record.Joining) > 0 || len(s.Record.Members) > s.Copies():
		g.State, g.Text = Moving, "All copies live; it is to be on "+list(s.wish)+"."
	default:
		g.Text = "All copies live."
	}
	if full := s.refuse(); len(full) > 0 && g.State != Unavailable {
		g.Text += fmt.Sprintf(" There is no room for it on %s.", list(full))
	}
	if len(s.Record.Joining) > 0 && g.State != Unavailable {
		g.Text += fmt.Sprintf(" It is being copied to %s.", list(disksOf(s.Record.Joining)))
	}
	return g
}

func disksOf(members []record.Member) (ids []string) {
	for _, m := range members {
		ids = append(ids, m.Disk)
	}
	return ids
}

func (s *scene) conditions(members []record.Member) (list []MemberStatus) {
	for _, m := range members {
		list = append(list, MemberStatus{m, s.Disks[m.Disk].Node, s.Condition(m)})
	}
	return list
}

// fates says what has become of those that do not live.
func (s *scene) fates(members []record.Member) string {
	var texts []string
	for _, m := range members {
		if !s.lives(m) {
			texts = append(texts, "disk "+m.Disk+": "+s.fate(m))
		}
	}
	return strings.Join(texts, "; ")
}

// unavailable says why no member lives, and what helps.
func (s *scene) unavailable() string {
	text := "No member lives: " + s.fates(s.Record.Members) + "."
	back, away := 0, 0
	for _, m := range s.Record.Members {
		switch s.Condition(m) {
		case Back:
			back++
		case Away:
			away++
		}
	}
	switch {
	case back == 0 && away == 0:
		return text + " Its data are lost unless one of these disks is repaired."
	case back == 0:
		return text + " It goes on when one of them is back."
	case away > 0 && s.revive() == nil:
		return text + " It goes on with those that are back when the others are too, or after a while if they are enough for writes."
	case s.revive() == nil:
		return text + fmt.Sprintf(" Writes need %d disks, and no other one can join.", s.min())
	}
	return text + " It is about to go on."
}

// list names a few things, and says how many more there are.
func list(names []string) string {
	const most = 4
	if len(names) == 0 {
		return "no disk"
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// number says how many of something there are.
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// ofGroups says what is at risk.
func (r *Report) ofGroups() (risks []string) {
	for _, k := range []struct {
		state State
		text  string
	}{
		{Unavailable, "%s cannot be read or written, as none of their members lives."},
		{Waiting, "%s cannot be written until enough disks are there."},
		{AtRisk, "One copy is left of %s: what is in them is lost if its disk fails now."},
		{Degraded, "Copies are missing of %s, at least two are left."},
	} {
		if n := r.States[k.state]; n > 0 {
			i := slices.IndexFunc(r.Unwell, func(g GroupStatus) bool { return g.State == k.state })
			some := fmt.Sprintf("%d of %s", n, number(r.Groups, "placement group"))
			risks = append(risks, fmt.Sprintf(k.text+" For example group %#x: %s", some, r.Unwell[i].Number, r.Unwell[i].Text))
		}
	}
	return risks
}

// ofNodes says which nodes are away or draining.
func (f *Facts) ofNodes(o *Options, c counts) (risks []string) {
	groups, stuck := map[string]int{}, map[string]int{}
	for id, n := range c.on {
		groups[f.Disks[id].Node] += n
		stuck[f.Disks[id].Node] += c.stuck[id]
	}
	for _, id := range sorted(f.Nodes) {
		n := f.Nodes[id]
		away := (f.Now - n.Since).Round(time.Second)
		switch left := o.Grace - away; {
		case n.Incarnation == "" && left > 0:
			risks = append(risks, fmt.Sprintf("Node %s is away for %v. In %v its groups are copied elsewhere; until then they have a copy less.", id, away, left))
		case n.Incarnation == "":
			risks = append(risks, fmt.Sprintf("Node %s is away for %v. Its groups are copied elsewhere if another node has a place for them, and moved back when it returns.", id, away))
		case n.Draining && stuck[id] > 0:
			risks = append(risks, fmt.Sprintf("Node %s is draining, and has %s, of which %d stay there, as no other node is left for a copy: add a node, or undrain it. Without it they have a copy less.", id, number(groups[id], "group"), stuck[id]))
		case n.Draining && groups[id] > 0:
			risks = append(risks, fmt.Sprintf("Node %s is draining, and still has %s: do not stop it yet.", id, number(groups[id], "group")))
		case n.Draining:
			risks = append(risks, fmt.Sprintf("Node %s is drained: it has no groups.", id))
		}
	}
	return risks
}

// ofDisks says which disks have failed, are to be empty, or are full.
func (f *Facts) ofDisks(o *Options, c counts) (risks []string) {
	on, less := c.on, c.less
	for _, id := range sorted(f.Disks) {
		d := f.Disks[id]
		switch {
		case d.Failed != "":
			text := fmt.Sprintf("Disk %s of node %s has failed: %s.", id, d.Node, d.Failed)
			if on[id] > 0 {
				text += fmt.Sprintf(" It is still named in %s, which cannot do without it.", number(on[id], "group"))
			}
			risks = append(risks, text)
		case d.Weight == 0 && c.stuck[id] > 0 && !f.Nodes[d.Node].Draining:
			risks = append(risks, fmt.Sprintf("Disk %s of node %s is to be empty, and has %s, of which %d stay there, as no other node is left for a copy: add a disk there, or a node.", id, d.Node, number(on[id], "group"), c.stuck[id]))
		case d.Weight == 0 && on[id] > 0:
			risks = append(risks, fmt.Sprintf("Disk %s of node %s is to be empty, and still has %s.", id, d.Node, number(on[id], "group")))
		case d.Full:
			text := fmt.Sprintf("Disk %s of node %s is full, %d %% of it are used", id, d.Node, d.percent())
			if d.percent() < int64(o.Full) {
				text = fmt.Sprintf("Disk %s of node %s has no room, as the file system of its data has none", id, d.Node)
			}
			text += ": groups that are written where nothing was before go on without it."
			if less[id] > 0 {
				text += fmt.Sprintf(" %s a copy less for that, until there is room.", have(less[id], "group"))
			}
			risks = append(risks, text)
		case d.percent() >= int64(o.Full):
			risks = append(risks, fmt.Sprintf("Disk %s of node %s is %d %% full: no groups are moved to it, and those that need room when it is full go on without it.", id, d.Node, d.percent()))
		}
	}
	return risks
}

// percent is how much of a disk is used, 0 if it is not known.
func (d *Disk) percent() int64 {
	if d.Size < 100 {
		return 0
	}
	return d.Used / (d.Size / 100)
}

// have says how many of something have something.
func have(n int, what string) string {
	if n == 1 {
		return "1 " + what + " has"
	}
	return number(n, what) + " have"
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
