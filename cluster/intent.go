package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/strata-storage/strata/cluster/place"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/units"
)

// An Intent is what an operator wants to do with a node or a disk.
type Intent struct {
	Kind IntentKind
	// ID is that of a node, or the name of one if no other one has it, or that of a
	// disk.
	ID string
	// Weight is the new one of a disk, with Weigh.
	Weight int64
}

// An IntentKind is a kind of intents.
type IntentKind uint8

// The kinds. Drain, of a node, moves all that it has elsewhere, Undrain allows it to have
// something again. Weigh changes how much a disk gets in proportion to others; 0 drains it.
// Forget ends a node, or a disk, for good: it is not known any more, and refused.
const (
	Drain IntentKind = iota + 1
	Undrain
	Weigh
	Forget
)

// String is the name of the kind in lower case.
func (k IntentKind) String() string {
	return [...]string{"unknown", "drain", "undrain", "weigh", "forget"}[k%5]
}

// A Foresight is what an intent will do, as far as it can be known before.
type Foresight struct {
	// Node and Disks are the IDs of what is concerned; Node is empty if it is a disk
	// only. Runs says that the process of the node lives.
	Node  string
	Disks []string
	Runs  bool
	// Copies is how many copies of groups have to be made elsewhere, of about so many
	// Bytes in all.
	Copies int
	Bytes  int64
	// Stuck are the groups for which there is no other node that could have a copy. What
	// is drained or weighed keeps it; if it is forgotten they will have a copy less.
	Stuck []int
	// Held is in how many groups the disks are now. Last are those of which nobody else
	// has anything, which are lost if the disks are forgotten, and Unsure those of which
	// nobody else has anything who lives now.
	Held         int
	Last, Unsure []int
	// Needs is how many copies each write needs that need another number then.
	Needs []Need
	// Refused says why it is not done, unless it is forced.
	Refused string
	// Texts says all that in sentences.
	Texts []string
}

// A Need is how many copies have to have each write of volumes with so many Copies.
type Need struct {
	Copies, Now, Then int
}

// Foresee says what an intent will do and cost.
func (n *Node) Foresee(ctx context.Context, i Intent) (*Foresight, error) {
	if err := n.seenAll(ctx, nil); err != nil {
		return nil, err
	}
	f, err := foresee(n.state.View(), i)
	if err == nil && i.Kind == Forget && f.Node == n.is.Node {
		err = fmt.Errorf("it is this node: ask another one: %w", record.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("%v %.100q: %w", i.Kind, i.ID, err)
	}
	return f, nil
}

func foresee(v *record.View, i Intent) (*Foresight, error) {
	f, err := concerned(v, i)
	if err != nil {
		return nil, err
	}
	s := sight{f, i, v, map[string]int{}}
	before, err := place.New(s.placed(false))
	if err != nil {
		return nil, err
	}
	after, err := place.New(s.placed(true))
	if err != nil {
		return nil, err
	}
	for _, g := range v.Groups.All() {
		for _, m := range g.Record.Members {
			s.on[m.Disk]++
		}
	}
	for number, g := range v.Groups.All() {
		s.look(number, g.Record, before, after)
	}
	s.need()
	s.refuse()
	s.tell()
	return f, nil
}

// concerned finds out what an intent is about.
func concerned(v *record.View, i Intent) (*Foresight, error) {
	if i.Kind < Drain || i.Kind > Forget {
		return nil, fmt.Errorf("%d is no kind of intents: %w", i.Kind, record.ErrInvalid)
	}
	if i.Weight < 0 || i.Weight != 0 && i.Kind != Weigh {
		return nil, fmt.Errorf("the weight %d, expected 0 or more, and only to weigh: %w", i.Weight, record.ErrInvalid)
	}
	f := &Foresight{}
	if d, ok := v.Disks.Get(i.ID); ok {
		if i.Kind != Weigh && i.Kind != Forget {
			return nil, fmt.Errorf("it is a disk, expected a node; a disk is drained by the weight 0: %w", record.ErrInvalid)
		}
		f.Disks = []string{i.ID}
		_, f.Runs = v.Runs.Get(d.Record.Node)
		return f, nil
	}
	node, err := nodeCalled(v, i.ID)
	if err != nil {
		return nil, err
	}
	if i.Kind == Weigh {
		return nil, fmt.Errorf("it is a node, expected a disk: %w", record.ErrInvalid)
	}
	f.Node = node
	_, f.Runs = v.Runs.Get(node)
	for id, d := range v.Disks.All() {
		if d.Record.Node == node {
			f.Disks = append(f.Disks, id)
		}
	}
	return f, nil
}

// nodeCalled returns the ID of a node by it or by its name.
func nodeCalled(v *record.View, text string) (string, error) {
	if _, ok := v.Nodes.Get(text); ok {
		return text, nil
	}
	var ids []string
	for id, e := range v.Nodes.All() {
		if e.Record.Name == text {
			ids = append(ids, id)
		}
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", fmt.Errorf("there is no node or disk of that ID, and no node of that name: %w", record.ErrNotFound)
	}
	return "", fmt.Errorf("the nodes %s have that name, expected the ID of one of them: %w", strings.Join(ids, ", "), record.ErrInvalid)
}

// A sight is a foresight that is being made.
type sight struct {
	*Foresight
	i  Intent
	v  *record.View
	on map[string]int // groups by disk
}

// placed are all disks as placement sees them now, or when the intent was carried out.
func (s *sight) placed(after bool) (list []place.Disk) {
	for id, e := range s.v.Disks.All() {
		d := e.Record
		node, known := s.v.Nodes.Get(d.Node)
		weight, out := d.Weight, !known || node.Record.Draining
		if after {
			weight, out = s.then(id, d)
		}
		if out || d.Failed != "" {
			weight = 0
		}
		list = append(list, place.Disk{ID: id, Node: d.Node, Zone: node.Record.Zone, Weight: weight})
	}
	return list
}

// then is the weight of a disk when the intent was carried out, and whether it is out.
func (s *sight) then(id string, d record.Disk) (weight int64, out bool) {
	node, known := s.v.Nodes.Get(d.Node)
	weight, out = d.Weight, !known || node.Record.Draining
	if !slices.Contains(s.Disks, id) {
		return weight, out
	}
	switch s.i.Kind {
	case Drain, Forget:
		out = true
	case Undrain:
		out = !known
	case Weigh:
		weight = s.i.Weight
	}
	return weight, out
}

// need finds out for which volumes writes will need another number of copies.
func (s *sight) need() {
	then := s.v.NeededIf(func(id string, d record.Disk) bool {
		weight, out := s.then(id, d)
		return weight > 0 && !out
	})
	seen := map[int]bool{}
	for _, f := range s.v.Families.All() {
		copies := f.Volume.Record.Copies
		if now := s.v.Needed(copies); !seen[copies] && copies > 0 && copies < len(then) && now != then[copies] {
			s.Needs = append(s.Needs, Need{copies, now, then[copies]})
		}
		seen[copies] = true
	}
	slices.SortFunc(s.Needs, func(a, b Need) int { return cmp.Compare(a.Copies, b.Copies) })
}

// look adds what a group has to do with it.
func (s *sight) look(number int, g record.Group, before, after *place.Map) {
	copies, index := record.SplitGroup(number)
	has := func(id string) bool {
		return slices.ContainsFunc(g.Members, func(m record.Member) bool { return m.Disk == id })
	}
	was, is := before.Disks(uint64(index), copies), after.Disks(uint64(index), copies)
	if n := lacking(is, has) - lacking(was, has); n > 0 {
		s.Copies += n
		s.Bytes += int64(n) * s.size(g)
	}
	others, living, here := 0, 0, false
	for _, m := range g.Members {
		switch {
		case slices.Contains(s.Disks, m.Disk):
			here = true
		case s.lives(m):
			living++
			others++
		default:
			if d, known := s.v.Disks.Get(m.Disk); known && d.Record.Failed == "" {
				others++
			}
		}
	}
	if !here {
		return
	}
	s.Held++
	if len(is) < len(was) {
		s.Stuck = append(s.Stuck, number)
	}
	switch {
	case others == 0:
		s.Last = append(s.Last, number)
	case living == 0:
		s.Unsure = append(s.Unsure, number)
	}
}

// lives tells whether a member does.
func (s *sight) lives(m record.Member) bool {
	d, _ := s.v.Disks.Get(m.Disk)
	run, _ := s.v.Runs.Get(d.Record.Node)
	return d.Record.Failed == "" && run.Record.Incarnation == m.Incarnation
}

// lacking is how many of a wish do not have the group.
func lacking(wish []string, has func(string) bool) (n int) {
	for _, id := range wish {
		if !has(id) {
			n++
		}
	}
	return n
}

// size is about how many bytes a group has on each disk.
func (s *sight) size(g record.Group) int64 {
	for _, m := range g.Members {
		if h, ok := s.v.Health.Get(m.Disk); ok && s.on[m.Disk] > 0 {
			return h.Record.Used / int64(s.on[m.Disk])
		}
	}
	return 0
}

// refuse decides whether it is done only by force.
func (s *sight) refuse() {
	if s.i.Kind != Forget {
		return
	}
	switch {
	case len(s.Last) > 0:
		s.Refused = fmt.Sprintf("it has the last copy of %s, whose data would be lost", units.Plural(len(s.Last), "placement group"))
	case len(s.Unsure) > 0:
		s.Refused = fmt.Sprintf("of %s all others who have a copy are away now: wait until they are back", units.Plural(len(s.Unsure), "placement group"))
	case s.Runs && s.Held > 0:
		s.Refused = fmt.Sprintf("it runs, as far as is known, and has a copy of %s, which would have a copy less: drain it first", units.Plural(s.Held, "placement group"))
	}
}

// tell puts it into words.
func (s *sight) tell() {
	say := func(format string, args ...any) { s.Texts = append(s.Texts, fmt.Sprintf(format, args...)) }
	what := "Disk " + strings.Join(s.Disks, ", ")
	if s.Node != "" {
		what = fmt.Sprintf("Node %s with %s", s.Node, units.Plural(len(s.Disks), "disk"))
	}
	say("%s is in %d of %s.", what, s.Held, units.Plural(s.v.Groups.Len(), "placement group"))
	about := ""
	if s.Bytes > 0 {
		about = ", about " + units.Bytes(s.Bytes)
	}
	switch {
	case s.Copies == 1:
		say("1 copy of a group is made elsewhere%s.", about)
	case s.Copies > 1:
		say("%d copies of groups are made elsewhere%s.", s.Copies, about)
	}
	switch {
	case len(s.Stuck) > 0 && s.i.Kind == Forget:
		say("%s will have a copy less, as there is no other node for it.", units.Plural(len(s.Stuck), "group"))
	case len(s.Stuck) > 0:
		say("The copy of %s stays there until there is another node for it.", units.Plural(len(s.Stuck), "group"))
	}
	for _, n := range s.Needs {
		why := "there are more nodes for copies then"
		if n.Then < n.Now {
			why = "no more nodes are left for copies"
		}
		say("Writes to volumes with %d copies will need %d of them, and not %d: %s.", n.Copies, n.Then, n.Now, why)
	}
	if s.i.Kind == Forget {
		say("It is refused from then on, and what it has is not used any more; it can join again only as a new one.")
	}
	if s.Refused != "" {
		say("It is done only by force: %s.", s.Refused)
	}
}
