package steward

import (
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// What is said of a group, by what its members are like.
func TestGroupStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		intent  string
		c       small
		state   State
		missing int
		text    string
	}{
		{"all is well", small{members: "abc", wish: "abc"}, Healthy, 0, "All copies live."},
		{"it is about to move", small{members: "abc", wish: "abd"}, Moving, 0, "All copies live; it is to be on a, b, d."},
		{"it moves", small{members: "abc", joining: "d", wish: "abd"}, Moving, 0, "All copies live; it is to be on a, b, d. It is being copied to d."},
		{"a copy is missing, and comes", small{members: "ab", joining: "c", wish: "abc"}, Degraded, 1, "2 of 3 copies live. It is being copied to c."},
		{"there is no room for a copy", small{members: "ab", wish: "abc", refused: "c"}, Degraded, 1, "2 of 3 copies live. There is no room for it on c."},
		{"a member has no room", small{members: "abc", wish: "abc", filled: "c"}, Healthy, 0, "All copies live."},
		{"there are too few nodes for all copies", small{members: "ab", wish: "ab"}, Degraded, 1, "2 of 3 copies live."},
		{"one copy is left", small{members: "a", joining: "b", wish: "ab"}, AtRisk, 2, "One copy is left, on disk a of node a. It is being copied to b."},
		{"one copy is all there should be", small{members: "a", wish: "a", copies: 1}, Healthy, 0, "All copies live."},
		{"one of two that writes need is left", small{members: "ab", wish: "ab", away: "b", since: time.Minute}, Waiting, 2, "Writes wait: 1 of 3 copies live, and writes need 2: disk b: node b is away for 1m0s."},
		{"all nodes are away", small{members: "ab", wish: "ab", away: "ab", since: time.Minute}, Unavailable, 3, "No member lives: disk a: node a is away for 1m0s; disk b: node b is away for 1m0s. It goes on when one of them is back."},
		{"all disks are gone", small{members: "a", wish: "b", gone: "a"}, Unavailable, 3, "No member lives: disk a: it has failed: an I/O error. Its data are lost unless one of these disks is repaired."},
		{"all are back", small{members: "ab", wish: "ab", back: "ab"}, Unavailable, 3, "No member lives: disk a: its node was started anew; disk b: its node was started anew. It is about to go on."},
		{"one is back, which is not enough", small{members: "ab", wish: "ab", back: "a", gone: "b"}, Unavailable, 3, "No member lives: disk a: its node was started anew; disk b: it has failed: an I/O error. Writes need 2 disks, and no other one can join."},
		{"others may be back soon", small{members: "ab", wish: "ab", back: "a", away: "b"}, Unavailable, 3, "No member lives: disk a: its node was started anew; disk b: node b is away for 0s. It goes on with those that are back when the others are too, or after a while if they are enough for writes."},
	} {
		g := tt.c.scene().status()
		if g.State != tt.state || g.Missing != tt.missing || g.Text != tt.text {
			t.Errorf("%s: %v, %d missing, %q, expected %v, %d, %q", tt.intent, g.State, g.Missing, g.Text, tt.state, tt.missing, tt.text)
		}
	}
}

// What is said of a cluster: how many groups are how, the worst first, and which nodes
// and disks an operator has to look at.
func TestStatus(t *testing.T) {
	t.Parallel()
	w := quiet(t, 5, 100)
	r, err := w.p.Status(&w.f)
	if err != nil || r.States[Healthy] != 100 || r.Groups != 100 || len(r.Unwell)+len(r.Risks)+len(r.Missing)+r.Joining+r.Due != 0 {
		t.Errorf("a quiet cluster: %+v, %v", r, err)
	}
	w.stop("n0")
	w.stop("n1")
	n := w.f.Nodes["n2"]
	n.Draining = true
	w.f.Nodes["n2"] = n
	d := w.f.Disks["n3d0"]
	d.Used = d.Size / 100 * 95
	w.f.Disks["n3d0"] = d
	d = w.f.Disks["n4d0"]
	d.Failed = "medium error"
	w.f.Disks["n4d0"] = d
	w.step()
	r, _ = w.p.Status(&w.f)
	for i, s := range r.Unwell[1:] {
		if s.State > r.Unwell[i].State {
			t.Fatalf("a group that is %v comes before one that is %v", r.Unwell[i].State, s.State)
		}
	}
	if r.States[Unavailable] == 0 || r.States[Waiting] == 0 || len(r.Missing) < 2 {
		t.Errorf("states %v, missing %v", r.States, r.Missing)
	}
	all := strings.Join(r.Risks, "\n")
	for _, want := range []string{
		"cannot be read or written", "cannot be written", "Node n0 is away for 5s. In 9m55s its groups are copied elsewhere",
		"Node n2 is draining, and still has", "Disk n3d0 of node n3 is 95 % full", "Disk n4d0 of node n4 has failed: medium error. It is still named in",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody says %q:\n%s", want, all)
		}
	}
	if !strings.Contains(r.Risks[0], "cannot be read or written") {
		t.Errorf("the first risk is %q", r.Risks[0])
	}
}

// A node or disk that is to be empty keeps the copies for which there is no other node, and
// status says so, until there is one.
func TestNowhereElse(t *testing.T) {
	t.Parallel()
	for what, x := range map[string]struct {
		empty func(w *world)
		says  string
	}{
		"a node": {func(w *world) {
			n := w.f.Nodes["n1"]
			n.Draining = true
			w.f.Nodes["n1"] = n
		}, "Node n1 is draining, and has 20 groups, of which 20 stay there, as no other node is left for a copy"},
		"a disk": {func(w *world) {
			d := w.f.Disks["n1d0"]
			d.Weight = 0
			w.f.Disks["n1d0"] = d
		}, "Disk n1d0 of node n1 is to be empty, and has 20 groups, of which 20 stay there, as no other node is left for a copy"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.addNode(1, "")
			w.addNode(1, "")
			w.makeGroups(20, 2)
			x.empty(w)
			w.settle()
			on := func() (n int) {
				for _, g := range w.f.Groups {
					for _, m := range g.Record.Members {
						if m.Disk == "n1d0" {
							n++
						}
					}
				}
				return n
			}
			r, err := w.p.Status(&w.f)
			if err != nil || on() != 20 || r.States[Healthy] != 20 || !strings.Contains(strings.Join(r.Risks, "\n"), x.says) {
				t.Errorf("it has %d of 20 groups: %+v, %v", on(), r, err)
			}
			w.addNode(1, "")
			w.settle()
			if r, err = w.p.Status(&w.f); err != nil || on() != 0 || r.States[Healthy] != 20 {
				t.Errorf("with another node it has %d of 20 groups: %+v, %v", on(), r, err)
			}
		})
	}
}

// What is said of a disk that has no room, why, and what comes of it.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	w := quiet(t, 3, 20)
	fill := func(disk string, percent int64) {
		d := w.f.Disks[disk]
		d.Used, d.Full = d.Size/100*percent, true
		w.f.Disks[disk] = d
	}
	fill("n0d0", 99)
	fill("n1d0", 30)
	for i := range 3 {
		g := &w.f.Groups[i]
		g.Record.Members = without(g.Record.Members, "n0d0")
		w.f.Held[Hold{g.Number, "n0d0"}] = w.f.Now - 1
	}
	plan, err := w.p.Plan(&w.f)
	if err != nil || len(plan) > 0 {
		t.Errorf("a full disk is to join: %v, %v", plan, err)
	}
	r, err := w.p.Status(&w.f)
	if err != nil || r.States[Degraded] != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	all := strings.Join(r.Risks, "\n")
	for _, want := range []string{
		"Disk n0d0 of node n0 is full, 99 % of it are used: groups that are written where nothing was before go on without it. 3 groups have a copy less for that, until there is room.",
		"Disk n1d0 of node n1 has no room, as the file system of its data has none: groups that are written where nothing was before go on without it.",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody says %q:\n%s", want, all)
		}
	}
}

// Names of states are for people, also of those that are none.
func TestNames(t *testing.T) {
	t.Parallel()
	if Healthy.String() != "healthy" || State(99).String() != "unknown" || Kind(99).String() != "unknown" || Revive.String() != "revive" || Gone.String() != "gone" {
		t.Error("names are wrong")
	}
	c := Change{Kind: Join, Group: record.GroupOf(3, 5), Epoch: 9, Disk: "d", Why: "so"}
	if got := c.String(); got != "group 0x300005 at epoch 9: join d: so" {
		t.Error(got)
	}
}
