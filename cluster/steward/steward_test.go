package steward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/record"
)

// A site is a cluster over a real store: nodes with leases, disks that join, and
// stewards.
type site struct {
	t     *testing.T
	sys   *memory.Server
	store *memory.Client // of the test
	state *record.State
	nodes []*siteNode
}

// A siteNode is a node with one disk.
type siteNode struct {
	id     string
	client *memory.Client
	state  *record.State
	lease  *coord.Lease
	s      *Steward
	stop   context.CancelCauseFunc
	done   chan error
	starts int
}

var errStopped = errors.New("it was stopped")

func newSite(t *testing.T, nodes, groups int) *site {
	c := &site{t: t, sys: memory.NewServer(memory.Options{})}
	c.store = c.sys.Client(memory.ClientOptions{})
	var err error
	if c.state, err = record.Follow(t.Context(), c.store); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		c.nodes = append(c.nodes, &siteNode{id: fmt.Sprint("n", i)})
		c.put(record.NodeKey(c.nodes[i].id), record.Node{ID: c.nodes[i].id, Zone: c.nodes[i].id})
		c.put(record.DiskKey("d"+c.nodes[i].id), record.Disk{ID: "d" + c.nodes[i].id, Node: c.nodes[i].id, Size: 1 << 40, Weight: 1 << 40})
		c.start(c.nodes[i])
	}
	synctest.Wait()
	p, f := &Planner{}, (&Observer{}).Facts(c.state.View(), 0)
	for i := range groups {
		g := Group{Number: record.GroupOf(3, i)}
		wish, err := p.Wish(f, &g)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range wish {
			g.Record.Members = append(g.Record.Members, record.Member{Disk: d, Incarnation: f.incarnation(d)})
		}
		c.put(record.GroupKey(g.Number), g.Record)
	}
	return c
}

func (c *site) put(key string, r record.Record) {
	c.t.Helper()
	value, err := record.Encode(key, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.store.Txn(c.t.Context(), coord.Txn{Then: []coord.Op{coord.Put(key, value)}}); err != nil {
		c.t.Fatal(err)
	}
}

// start starts a node: its lease, its part in the election, its disk.
func (c *site) start(n *siteNode) {
	c.t.Helper()
	n.starts++
	n.client = c.sys.Client(memory.ClientOptions{Patience: time.Second})
	var err error
	if n.lease, err = coord.NewLease(c.t.Context(), n.client, 3*time.Second); err != nil {
		c.t.Fatal(err)
	}
	if n.state, err = record.Follow(c.t.Context(), n.client); err != nil {
		c.t.Fatal(err)
	}
	value, err := record.Encode(record.RunKey(n.id), record.Run{Incarnation: fmt.Sprint(n.id, "-", n.starts)})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err = n.client.Txn(c.t.Context(), coord.Txn{Then: []coord.Op{coord.PutLeased(n.lease.ID(), record.RunKey(n.id), value)}}); err != nil {
		c.t.Fatal(err)
	}
	n.s = New(Config{Store: n.client, State: n.state, Lease: n.lease, Node: n.id})
	ctx, stop := context.WithCancelCause(context.Background())
	n.stop, n.done = stop, make(chan error, 1)
	go func() {
		defer close(n.done)
		pulling := make(chan struct{})
		go func() {
			defer close(pulling)
			c.pull(ctx, n)
		}()
		n.done <- n.s.Run(ctx)
		<-pulling
	}()
}

// kill ends a node as a power cut does: its lease has to expire.
func (c *site) kill(n *siteNode) {
	c.t.Helper()
	n.client.Cut(true, true)
	n.stop(errStopped)
	for err := range n.done {
		if !errors.Is(err, errStopped) {
			c.t.Errorf("node %s ended with %v", n.id, err)
		}
	}
	_ = n.state.Close()
	_ = n.client.Close()
}

// pull is the disk of a node: it makes itself a member of the groups that it joins, two
// seconds later.
func (c *site) pull(ctx context.Context, n *siteNode) {
	me := fmt.Sprint(n.id, "-", n.starts)
	for v := n.state.View(); ; {
		for number, e := range v.Groups.All() {
			is := func(m record.Member) bool { return m.Disk == "d"+n.id && m.Incarnation == me }
			i := slices.IndexFunc(e.Record.Joining, is)
			if i < 0 {
				continue
			}
			g := record.Group{Members: append(slices.Clone(e.Record.Members), e.Record.Joining[i]), Joining: slices.DeleteFunc(slices.Clone(e.Record.Joining), is), Revived: e.Record.Revived}
			value, err := record.Encode(record.GroupKey(number), g)
			if err != nil {
				c.t.Error(err)
			}
			time.Sleep(20 * time.Millisecond)
			_, _ = n.client.Txn(ctx, coord.Txn{If: []coord.Compare{coord.IfRevision(record.GroupKey(number), e.Revision)}, Then: []coord.Op{coord.Put(record.GroupKey(number), value)}})
		}
		var err error
		if v, err = n.state.Next(ctx, v); err != nil {
			return
		}
	}
}

// close ends everything.
func (c *site) close() {
	for _, n := range c.nodes {
		if n.client != nil {
			c.kill(n)
		}
	}
	_ = c.state.Close()
	_ = c.store.Close()
	time.Sleep(time.Minute) // leases end when they notice
}

// leader returns the node that leads, nil if none does.
func (c *site) leader() *siteNode {
	e, _, err := c.store.Get(c.t.Context(), Key)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.nodes {
		if n.id == string(e.Value) {
			return n
		}
	}
	return nil
}

// with returns how many groups have a disk as a member, and how many groups have how
// many members.
func (c *site) with(disk string) (n int, sizes map[int]int) {
	synctest.Wait()
	sizes = map[int]int{}
	for _, e := range c.state.View().Groups.All() {
		sizes[len(e.Record.Members)]++
		if slices.ContainsFunc(e.Record.Members, func(m record.Member) bool { return m.Disk == disk }) {
			n++
		}
	}
	return n, sizes
}

// The steward itself dies: another one is elected, removes the dead node from all
// groups, and lets others have its copies when it has been away for the grace period,
// counted from when it died. When it comes back, it gets its groups again.
func TestStewardDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSite(t, 5, 40)
		defer c.close()
		time.Sleep(5 * time.Second)
		first := c.leader()
		if first == nil {
			t.Fatal("nobody leads")
		}
		had, _ := c.with("d" + first.id)
		c.kill(first)
		first.client = nil
		time.Sleep(10 * time.Second)
		if n, sizes := c.with("d" + first.id); n != 0 || sizes[2] != had || sizes[3] != 40-had {
			t.Fatalf("%d groups have the dead disk, sizes %v, expected none, and %d with two members", n, sizes, had)
		}
		time.Sleep(5 * time.Minute)
		second := c.leader()
		second.stop(errStopped) // resigns
		time.Sleep(5*time.Minute - 20*time.Second)
		if _, sizes := c.with(""); sizes[2] != had {
			t.Fatalf("sizes %v before the grace period is over", sizes)
		}
		if third := c.leader(); third == nil || third == second {
			t.Fatal("nobody else leads")
		}
		// The second one does not pull any more, but is taken for living.
		time.Sleep(time.Minute)
		if n, sizes := c.with("d" + first.id); n != 0 || sizes[2] == had {
			t.Fatalf("sizes %v after the grace period, the dead disk has %d", sizes, n)
		}
		c.kill(second)
		c.start(second)
		time.Sleep(time.Minute)
		if _, sizes := c.with(""); sizes[3] != 40 {
			t.Fatalf("sizes %v after the grace period", sizes)
		}
		c.start(first)
		time.Sleep(time.Minute)
		if n, sizes := c.with("d" + first.id); n != had || sizes[3] != 40 {
			t.Fatalf("%d groups have the disk that is back, sizes %v, expected %d as before", n, sizes, had)
		}
		for _, n := range c.nodes {
			if r, err := n.s.Status(); err != nil || r.States[Healthy] != 40 || len(r.Risks) > 0 {
				t.Errorf("node %s says %+v, %v", n.id, r, err)
			}
		}
	})
}

// All nodes lose power: the groups go on when they are back, with all of their members.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSite(t, 4, 20)
		defer c.close()
		time.Sleep(5 * time.Second)
		for _, n := range c.nodes {
			c.kill(n)
		}
		time.Sleep(time.Hour)
		for _, n := range c.nodes {
			time.Sleep(time.Second)
			c.start(n)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for number, e := range c.state.View().Groups.All() {
			if g := e.Record; len(g.Members) != 3 || g.Revived != 1 {
				t.Errorf("group %#x is %+v", number, g)
			}
		}
	})
}

// A steward that is cut off makes no changes any more, and those that it has begun
// fail when another one leads.
func TestCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSite(t, 4, 20)
		defer c.close()
		time.Sleep(5 * time.Second)
		old := c.leader()
		old.client.Cut(true, true)
		time.Sleep(20 * time.Second)
		if now := c.leader(); now == nil || now == old {
			t.Fatal("nobody else leads")
		}
		if n, sizes := c.with("d" + old.id); n != 0 || sizes[1] > 0 {
			t.Errorf("%d groups have the disk that is cut off, sizes %v", n, sizes)
		}
		old.client.Cut(false, false)
		if err := <-old.done; !errors.Is(err, coord.ErrLeaseLost) {
			t.Errorf("the old steward ended with %v", err)
		}
		old.stop(errStopped)
		_ = old.state.Close()
		_ = old.client.Close()
		old.client = nil
	})
}

// A disk that somebody removed while it joined is left alone for a while: it may be
// full, or broken in a way that it does not know of.
func TestHold(t *testing.T) {
	t.Parallel()
	o := &Observer{}
	h := Hold{record.GroupOf(3, 1), "a"}
	node := Node{Node: record.Node{ID: "a"}, Incarnation: "1"}
	facts := func(now time.Duration, epoch coord.Revision, joining ...record.Member) *Facts {
		f := &Facts{
			Now: now, Nodes: map[string]Node{"a": node},
			Disks:  map[string]Disk{"a": {Disk: record.Disk{ID: "a", Node: "a"}}},
			Groups: []Group{{Number: h.Group, Epoch: epoch, Record: record.Group{Joining: joining}}},
		}
		o.hold(f)
		return f
	}
	m := record.Member{Disk: "a", Incarnation: "1"}
	facts(1, 1, m)
	facts(2, 2)
	if o.held[h] != 2+time.Minute {
		t.Errorf("held until %v", o.held[h])
	}
	facts(3+time.Minute, 2)
	if len(o.held) != 0 {
		t.Error("held for ever")
	}
	facts(4+time.Minute, 3, m)
	o.did(h.Group, 4, record.Group{})
	facts(5+time.Minute, 3, m) // somebody asks before the copy shows it
	facts(6+time.Minute, 4)
	facts(7+time.Minute, 5, record.Member{Disk: "a", Incarnation: "0"})
	facts(8+time.Minute, 6)
	if len(o.held) != 0 {
		t.Error("held after a change of our own, or because it was started anew")
	}
	facts(9+time.Minute, 7, m)
	facts(10+time.Minute, 8)
	if len(o.held) != 1 {
		t.Error("not held the second time")
	}
	node.Incarnation, node.Since = "2", 11+time.Minute
	facts(11+time.Minute, 8)
	if len(o.held) != 0 {
		t.Error("a process is held for what the one before was removed for")
	}
	o.did(h.Group, 9, record.Group{Joining: []record.Member{{Disk: "a", Incarnation: "2"}}})
	facts(12+time.Minute, 10)
	if len(o.held) != 1 {
		t.Error("not held after it was removed before it was seen")
	}
}

// What writes need is what the most careful volume with as many copies does, and a
// node counts as away since it was seen to be.
func TestObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSite(t, 3, 1)
		defer c.close()
		catalog := record.Catalog{Store: c.store}
		for i, least := range []int{1, 3, 2} {
			if _, err := catalog.Create(t.Context(), fmt.Sprint("vm", i), record.Spec{Size: 1 << 30, ObjectSize: 4 << 20, Copies: 3, MinCopies: least}); err != nil {
				t.Fatal(err)
			}
		}
		o := &Observer{Used: func(disk string) int64 { return int64(len(disk)) }}
		synctest.Wait()
		f := o.Facts(c.state.View(), 5)
		if f.Groups[0].MinCopies != 3 || f.Disks["dn0"].Used != 3 || f.Nodes["n0"].Since != 5 {
			t.Errorf("%+v", f)
		}
		c.kill(c.nodes[0])
		c.nodes[0].client = nil
		time.Sleep(time.Minute)
		synctest.Wait()
		o.See(c.state.View(), 8)
		f = o.Facts(c.state.View(), 9)
		if n := f.Nodes["n0"]; n.Incarnation != "" || n.Since != 8 || f.Nodes["n1"].Since != 5 {
			t.Errorf("%+v", f.Nodes)
		}
	})
}

// A full disk that somebody has removed stays away until it has room, or is started anew:
// then it may have what it needs.
func TestHoldFull(t *testing.T) {
	t.Parallel()
	full := true
	o := &Observer{}
	h := Hold{record.GroupOf(3, 1), "a"}
	node := Node{Node: record.Node{ID: "a"}, Incarnation: "1"}
	facts := func(now time.Duration, epoch coord.Revision, members ...record.Member) *Facts {
		f := &Facts{
			Now: now, Nodes: map[string]Node{"a": node},
			Disks:  map[string]Disk{"a": {Disk: record.Disk{ID: "a", Node: "a"}, Full: full}},
			Groups: []Group{{Number: h.Group, Epoch: epoch, Record: record.Group{Members: members}}},
		}
		o.hold(f)
		f.Held = o.held
		return f
	}
	m := record.Member{Disk: "a", Incarnation: "1"}
	facts(1, 1, m)
	for _, now := range []time.Duration{2, time.Minute, 9 * time.Minute} {
		if !facts(now, 2).holds(h) {
			t.Errorf("a full disk may join after %v", now)
		}
	}
	if facts(11*time.Minute, 2).holds(h) {
		t.Error("it may never try again")
	}
	facts(12*time.Minute, 1, m)
	facts(13*time.Minute, 2)
	full = false
	if facts(15*time.Minute, 2).holds(h) {
		t.Error("it may not join though it has room")
	}
	facts(3*time.Hour, 3, m)
	if facts(4*time.Hour, 4).holds(h) {
		t.Error("a member that was removed and has room may not join")
	}
	full = true
	facts(5*time.Hour, 5, m)
	facts(6*time.Hour, 6)
	node.Incarnation, node.Since = "2", 7*time.Hour
	if facts(7*time.Hour, 6).holds(h) {
		t.Error("it may not join though it was started anew")
	}
}
