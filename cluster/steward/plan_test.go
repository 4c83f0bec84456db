package steward

import (
	"fmt"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// quiet returns a world of so many nodes where everything is in its place.
func quiet(t *testing.T, nodes, groups int) *world {
	w := newWorld(t, 1)
	w.p = &Planner{}
	for range nodes {
		w.addNode(1, "")
	}
	w.makeGroups(groups, 3)
	w.settle()
	clear(w.joins)
	w.moved = 0
	return w
}

// misplaced counts the copies that are not where they should be.
func (w *world) misplaced() (n int) {
	for i := range w.f.Groups {
		g := &w.f.Groups[i]
		wish, _ := w.p.Wish(&w.f, g)
		for _, d := range wish {
			found := false
			for _, m := range g.Record.Members {
				found = found || m.Disk == d
			}
			if !found {
				n++
			}
		}
	}
	return n
}

// When a node comes, what it gets moves to it, and nothing else moves.
func TestNewNodeMovesTheLeast(t *testing.T) {
	t.Parallel()
	w := quiet(t, 5, 200)
	w.addNode(2, "")
	least := w.misplaced()
	w.settle()
	w.checkWish()
	if w.moved != least || least == 0 {
		t.Errorf("%d copies have moved, %d had to", w.moved, least)
	}
}

// A node that is away for less than the grace period costs nothing but that it joins
// its groups again, with what it has.
func TestShortAbsenceMovesNothing(t *testing.T) {
	t.Parallel()
	w := quiet(t, 5, 200)
	w.stop("n1")
	for range int(9 * time.Minute / tick) {
		w.step()
	}
	if len(w.joins) != 0 {
		t.Errorf("%d copies were made after 9 minutes", len(w.joins))
	}
	w.start("n1")
	w.settle()
	w.checkWish()
	for key := range w.joins {
		if w.f.Disks[key.Disk].Node != "n1" {
			t.Errorf("disk %s has joined group %#x", key.Disk, key.Group)
		}
	}
	if w.moved != 0 {
		t.Errorf("%d copies have moved", w.moved)
	}
}

// A node that stays away is replaced after the grace period; one that is expelled, or
// whose disk has failed, at once. Only its copies are made again.
func TestLongAbsence(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w *world){
		"away":     func(w *world) { w.stop("n1") },
		"expelled": func(w *world) { w.stop("n1"); delete(w.f.Disks, "n1d0") },
		"failed":   func(w *world) { d := w.f.Disks["n1d0"]; d.Failed = "gone"; w.f.Disks["n1d0"] = d },
	} {
		w := quiet(t, 5, 200)
		copies := 0
		for _, g := range w.f.Groups {
			for _, m := range g.Record.Members {
				if m.Disk == "n1d0" {
					copies++
				}
			}
		}
		lose(w)
		w.step()
		w.step()
		if soon := len(w.joins) > 0; soon != (name != "away") {
			t.Errorf("%s: copies are made at once: %v", name, soon)
		}
		for range int(11 * time.Minute / tick) {
			w.step()
		}
		w.settle()
		w.checkWish()
		if w.moved != copies {
			t.Errorf("%s: %d copies were made, there had been %d", name, w.moved, copies)
		}
	}
}

// A node that drains ends without anything, and no group has too few copies meanwhile.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := quiet(t, 5, 200)
	n := w.f.Nodes["n2"]
	n.Draining = true
	w.f.Nodes["n2"] = n
	least := w.misplaced()
	for w.misplaced() > 0 {
		w.step()
		for _, g := range w.f.Groups {
			if len(g.Record.Members) < 3 {
				t.Fatalf("group %#x has the members %v", g.Number, g.Record.Members)
			}
		}
	}
	w.settle()
	w.checkWish()
	if w.moved != least {
		t.Errorf("%d copies have moved, %d had to", w.moved, least)
	}
}

// The limits hold for each disk and in all, moves stay below their own, and what misses
// most comes first.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := quiet(t, 6, 400)
	w.p.Options = Options{Joins: 30, Disk: 5, Source: 6, Moves: 7, MovesDisk: 2, Batch: 12}
	w.addNode(1, "")
	w.addNode(1, "")
	check := func(joins, disk, source int) {
		t.Helper()
		total, by, from := 0, map[string]int{}, map[string]int{}
		for _, g := range w.f.Groups {
			for _, m := range g.Record.Joining {
				total++
				by[m.Disk]++
				from[g.Record.Members[0].Disk]++
			}
		}
		if total > joins {
			t.Fatalf("%d disks join, expected %d at most", total, joins)
		}
		for id := range w.f.Disks {
			if by[id] > disk || from[id] > source {
				t.Fatalf("disk %s joins %d groups and is pulled from for %d, expected %d and %d at most", id, by[id], from[id], disk, source)
			}
		}
	}
	for range 100 {
		if n := w.step(); n > 12 {
			t.Fatalf("a plan of %d changes", n)
		}
		check(7, 2, 2)
	}
	d := w.f.Disks["n1d0"]
	d.Failed = "gone"
	w.f.Disks["n1d0"] = d
	for range 300 {
		w.step()
		// A group whose first member was removed is pulled from another one.
		check(30, 5, 400)
	}
	w.settle()
	w.checkWish()
}

// Groups with one copy come before those with two, and those before what only moves.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := quiet(t, 5, 60)
	w.p.Joins = 1
	for i := range w.f.Groups {
		g := &w.f.Groups[i]
		g.MinCopies = 1
		g.Record.Members = g.Record.Members[:3-i%3]
	}
	plan, err := w.p.Plan(&w.f)
	if err != nil || len(plan) != 1 || plan[0].Group%3 != record.GroupOf(3, 2)%3 || len(plan[0].Record.Members) != 1 {
		t.Errorf("%v, %v", plan, err)
	}
}

// Facts that cannot be lead to nothing, or to an error.
func TestBadFacts(t *testing.T) {
	t.Parallel()
	f := &Facts{
		Nodes: map[string]Node{"a": {Node: record.Node{ID: "a", Zone: "a"}, Incarnation: "1"}},
		Disks: map[string]Disk{"d": {Disk: record.Disk{ID: "d", Node: "a", Weight: 1}}, "e": {Disk: record.Disk{ID: "e", Node: "none", Weight: 5}}},
	}
	f.Groups = []Group{{Number: record.GroupOf(1, 0), Record: record.Group{}}}
	if plan, err := (&Planner{}).Plan(f); err != nil || len(plan) != 0 {
		t.Errorf("a group without members: %v, %v", plan, err)
	}
	f.Disks[""] = Disk{Disk: record.Disk{Node: "a", Weight: 1}}
	if plan, err := (&Planner{}).Plan(f); err == nil || len(plan) != 0 {
		t.Errorf("a disk without a name: %v, %v", plan, err)
	}
}

// A plan for a cluster of 100 disks, where nothing is to be done.
func BenchmarkPlan(b *testing.B) {
	f := &Facts{Nodes: map[string]Node{}, Disks: map[string]Disk{}}
	for i := range 100 {
		id := fmt.Sprint("n", i)
		f.Nodes[id] = Node{Node: record.Node{ID: id, Zone: id}, Incarnation: "1"}
		f.Disks[id] = Disk{Disk: record.Disk{ID: id, Node: id, Size: 1 << 40, Weight: 1 << 40}}
	}
	p := &Planner{}
	for i := range 16384 {
		g := Group{Number: record.GroupOf(3, i), Epoch: 1}
		wish, _ := p.Wish(f, &g)
		for _, d := range wish {
			g.Record.Members = append(g.Record.Members, record.Member{Disk: d, Incarnation: "1"})
		}
		f.Groups = append(f.Groups, g)
	}
	b.ResetTimer()
	b.ReportAllocs()
	for b.Loop() {
		if plan, err := p.Plan(f); err != nil || len(plan) > 0 {
			b.Fatal(plan, err)
		}
	}
}

// A cluster that has become larger than one node needs a second disk for each write at
// once: no group waits until others have been copied.
func TestBlockedGroupsAreNotBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.p = &Planner{Options: Options{Joins: 2, Disk: 1, Source: 1}}
	w.addNode(1, "")
	w.makeGroups(50, 3)
	w.addNode(1, "")
	for i := range w.f.Groups {
		w.f.Groups[i].MinCopies = 2
	}
	plan, err := w.p.Plan(&w.f)
	if err != nil || len(plan) != 50 {
		t.Errorf("%d of 50 groups get a disk, %v", len(plan), err)
	}
	for i := range w.f.Groups {
		w.f.Groups[i].MinCopies = 1
	}
	if plan, err = w.p.Plan(&w.f); err != nil || len(plan) != 1 {
		t.Errorf("%d groups get a disk, expected 1 where nobody waits, %v", len(plan), err)
	}
}
