package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
)

// awaits waits until a view is as it should be.
func awaits(t testing.TB, n *Node, what string, is func(v *record.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for v := n.View(); !is(v); {
		var err error
		if v, err = n.state.Next(ctx, v); err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
	}
}

// inGroups tells whether a node is in a group.
func (n *Node) inGroups(v *record.View) bool {
	for _, g := range v.Groups.All() {
		for _, m := range slices.Concat(g.Record.Members, g.Record.Joining) {
			if n.disks[m.Disk] != nil {
				return true
			}
		}
	}
	return false
}

func quickSteward(o *Options) {
	o.Steward = steward.Options{Grace: time.Second, Urgent: time.Second, Revive: time.Second, Moves: 100, MovesDisk: 100}
}

// A node is drained, which costs what was said, and forgotten. Then it is refused, and
// says so when it is started.
func TestDrainAndForget(t *testing.T) {
	t.Parallel()
	nodes := several(t, 4, quickSteward)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 4<<20, 1)
	must(t, dev.Flush(t.Context()))
	// One that votes, which has to find another way to hear of it.
	voters := electorate(t, nodes[0], 3)
	gone := nodes[slices.IndexFunc(nodes[1:], func(n *Node) bool { return slices.Contains(voters, n.ID()) })+1]
	if !gone.inGroups(nodes[0].View()) {
		t.Fatal("nothing is on the node")
	}
	forget, drain := Intent{Kind: Forget, ID: gone.ID()}, Intent{Kind: Drain, ID: gone.ID()}
	if f, err := nodes[0].Carry(t.Context(), forget, false); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "drain it first") {
		t.Errorf("forgetting a node that has something: %v, %+v", err, f)
	}
	f, err := nodes[0].Carry(t.Context(), drain, false)
	must(t, err)
	if f.Held == 0 || f.Copies != f.Held || len(f.Last)+len(f.Stuck)+len(f.Needs) > 0 || f.Refused != "" {
		t.Errorf("draining it: %+v", f)
	}
	awaits(t, nodes[0], "the node is empty", func(v *record.View) bool { return !gone.inGroups(v) })
	_, err = nodes[0].Carry(t.Context(), forget, false)
	must(t, err)
	<-gone.run.current().Lost()
	must(t, gone.store.Close())
	must(t, nodes[0].seenAll(t.Context(), nil))
	if v := nodes[0].View(); v.Nodes.Len() != 3 || v.Disks.Len() != 3 || v.Runs.Len() != 3 {
		t.Errorf("%d nodes, %d disks, %d run", v.Nodes.Len(), v.Disks.Len(), v.Runs.Len())
	}
	must(t, stopped(gone))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := Start(ctx, gone.o); !errors.Is(err, identity.ErrExpelled) || !strings.Contains(err.Error(), "it can join again with a new data directory") {
		t.Errorf("a node that was expelled starts: %v", err)
	}
	check(t, dev, 0, 4<<20, 1)
}

// stopped ends a node whose store is closed.
func stopped(n *Node) error {
	_ = stop(n)
	return nil
}

// A node that is dead is forgotten only if nothing is lost by that, or by force.
func TestForgetTheLast(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2, quickSteward)
	voting := nodes[0]
	must(t, voting.Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize, Copies: 1}))
	dev := open(t, voting, "vm1")
	fill(t, dev, 0, 4<<20, 1)
	nodes[1].crash()
	awaits(t, voting, "the node is away", func(v *record.View) bool { return v.Runs.Len() == 1 })
	must(t, voting.Create(t.Context(), "vm2", record.Spec{Size: 4 << 20, Copies: 2}))
	f, err := voting.Foresee(t.Context(), Intent{Kind: Drain, ID: nodes[1].ID()})
	must(t, err)
	if !slices.Equal(f.Needs, []Need{{Copies: 2, Now: 2, Then: 1}}) || !slices.ContainsFunc(f.Texts, func(text string) bool {
		return strings.Contains(text, "with 2 copies will need 1 of them, and not 2")
	}) {
		t.Errorf("draining one of two: %+v", f)
	}
	f, err = voting.Carry(t.Context(), Intent{Kind: Forget, ID: nodes[1].ID()}, false)
	if !errors.Is(err, ErrRefused) || len(f.Last) == 0 || !strings.Contains(f.Refused, "the last copy of") {
		t.Errorf("forgetting the last copies: %v, %+v", err, f)
	}
	if _, err = voting.Carry(t.Context(), Intent{Kind: Forget, ID: nodes[1].ID()}, true); err != nil {
		t.Errorf("by force: %v", err)
	}
	if err := dev.ReadAt(t.Context(), make([]byte, 4<<20), 0, 0); err == nil {
		t.Error("what was lost can be read")
	}
	if v := voting.View(); v.Nodes.Len() != 1 || v.Disks.Len() != 1 {
		t.Errorf("%d nodes, %d disks", v.Nodes.Len(), v.Disks.Len())
	}
}

// Intents that make no sense are refused with a reason.
func TestIntents(t *testing.T) {
	t.Parallel()
	o := small(tempDir(t))
	o.Name = "alpha"
	n := start(t, o)
	disk := ""
	for id := range n.disks {
		disk = id
	}
	for _, x := range []struct {
		i    Intent
		want error
		says string
	}{
		{Intent{Kind: Drain, ID: "beta"}, record.ErrNotFound, "no node of that name"},
		{Intent{Kind: Drain, ID: disk}, record.ErrInvalid, "it is a disk, expected a node"},
		{Intent{Kind: Weigh, ID: "alpha"}, record.ErrInvalid, "it is a node, expected a disk"},
		{Intent{Kind: Weigh, ID: disk, Weight: -1}, record.ErrInvalid, "the weight -1"},
		{Intent{Kind: Drain, ID: "alpha", Weight: 1}, record.ErrInvalid, "only to weigh"},
		{Intent{ID: "alpha"}, record.ErrInvalid, "no kind of intents"},
		{Intent{Kind: Forget, ID: "alpha"}, record.ErrInvalid, "it is this node"},
	} {
		if _, err := n.Carry(t.Context(), x.i, false); !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%+v: %v, expected %q", x.i, err, x.says)
		}
	}
	_, err := n.Carry(t.Context(), Intent{Kind: Drain, ID: "alpha"}, false)
	must(t, err)
	if e, _ := n.View().Nodes.Get(n.ID()); !e.Record.Draining {
		t.Error("it is not draining")
	}
	_, err = n.Carry(t.Context(), Intent{Kind: Undrain, ID: "alpha"}, false)
	must(t, err)
	_, err = n.Carry(t.Context(), Intent{Kind: Weigh, ID: disk, Weight: 5 << 20}, false)
	must(t, err)
	if got, _ := weights(t, n); got[0] != 5 {
		t.Errorf("the weight is %v", got)
	}
}
