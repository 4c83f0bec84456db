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

// A holder looks at one group, in which a disk may have a part.
type holder struct {
	Observer
	node  Node
	full  bool
	group int
	epoch coord.Revision
}

func newHolder() *holder {
	return &holder{node: Node{Node: record.Node{ID: "a"}, Incarnation: "1"}, group: record.GroupOf(3, 1)}
}

// at lets it look at a record, which is another one than before.
func (h *holder) at(now time.Duration, r record.Group) {
	h.epoch++
	h.again(now, r)
}

// again lets it look at the same record as before, and reports whether the disk is held.
func (h *holder) again(now time.Duration, r record.Group) bool {
	f := &Facts{
		Now: now, Nodes: map[string]Node{"a": h.node},
		Disks:  map[string]Disk{"a": {Disk: record.Disk{ID: "a", Node: "a"}, Full: h.full}},
		Groups: []Group{{Number: h.group, Epoch: h.epoch, Record: r}},
	}
	h.hold(f)
	return f.holds(Hold{h.group, "a"})
}

// pause is how long the disk is held that was removed last, 0 if it is not.
func (h *holder) pause() time.Duration {
	if is := h.held[Hold{h.group, "a"}]; is != nil {
		return is.pause
	}
	return 0
}

var (
	asMember = record.Group{Members: []record.Member{{Disk: "a", Incarnation: "1"}}}
	asJoiner = record.Group{Joining: []record.Member{{Disk: "a", Incarnation: "1"}}}
	without0 = record.Group{Members: []record.Member{{Disk: "b", Incarnation: "1"}}}
)

// A disk that somebody removed is left alone for a while: it may not be reached, be full, or
// broken in a way that it does not know of. That is 1 s at first, and up to a minute if it
// happens again and again.
func TestHold(t *testing.T) {
	t.Parallel()
	h := newHolder()
	now := time.Hour
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		r := asJoiner
		if i%3 == 0 {
			r = asMember
		}
		h.at(now, r)
		h.at(now+time.Millisecond, without0)
		if got := h.pause(); got != want*time.Second {
			t.Errorf("removed %d times, it is held for %v, expected %v s", i+1, got, int64(want))
		}
		now += h.pause()
	}
	// A member for less than that, which was removed again, and then for long.
	h.at(now, asMember)
	h.again(now+30*time.Second, asMember)
	h.at(now+31*time.Second, without0)
	if h.pause() != time.Minute {
		t.Errorf("held for %v after half a minute", h.pause())
	}
	now += 2 * time.Minute
	h.at(now, asMember)
	h.again(now+time.Minute, asMember)
	h.at(now+time.Minute, without0)
	if h.pause() != time.Second {
		t.Errorf("held for %v after it was a member for a minute", h.pause())
	}
	// One that does not join any more is forgotten.
	h.again(now+2*time.Minute+time.Second, without0)
	if h.pause() != 0 {
		t.Error("held for ever")
	}
	// Who asks for less gets less.
	h = newHolder()
	h.Hold = 300 * time.Millisecond
	h.at(1, asJoiner)
	h.at(2, without0)
	if h.pause() != h.Hold {
		t.Errorf("held for %v, expected %v at most", h.pause(), h.Hold)
	}
}

// Nobody is held for what the steward has done itself, or for what a process before was
// removed for.
func TestNotHeld(t *testing.T) {
	t.Parallel()
	h := newHolder()
	h.at(1, asJoiner)
	h.did(h.group, h.epoch+1, without0)
	h.again(2, asJoiner) // somebody asks before the copy shows it
	h.at(3, without0)
	h.at(4, record.Group{Joining: []record.Member{{Disk: "a", Incarnation: "0"}}})
	h.at(5, without0)
	h.at(6, asMember)
	h.at(7, record.Group{Joining: []record.Member{{Disk: "a", Incarnation: "1", Since: 7}}})
	if h.pause() != 0 {
		t.Error("held after a change of our own, because it was started anew, or is to join again")
	}
	h.at(8, without0)
	if h.pause() == 0 {
		t.Error("not held")
	}
	h.node.Incarnation, h.node.Since = "2", 9
	h.again(9, without0)
	if h.pause() != 0 {
		t.Error("a process is held for what the one before was removed for")
	}
	h.did(h.group, h.epoch+1, record.Group{Joining: []record.Member{{Disk: "a", Incarnation: "2"}}})
	h.epoch++
	h.at(10, without0)
	if h.pause() == 0 {
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
	h := newHolder()
	h.full = true
	h.at(1, asMember)
	h.at(2, without0)
	for _, now := range []time.Duration{3, time.Minute, 9 * time.Minute} {
		if !h.again(now, without0) {
			t.Errorf("a full disk may join after %v", now)
		}
	}
	if h.again(11*time.Minute, without0) {
		t.Error("it may never try again")
	}
	h.at(12*time.Minute, asMember)
	h.at(13*time.Minute, without0)
	h.full = false
	if h.again(13*time.Minute+5*time.Second, without0) {
		t.Error("it may not join though it has room")
	}
	h.full = true
	h.at(5*time.Hour, asMember)
	h.at(5*time.Hour+1, without0)
	h.node.Incarnation, h.node.Since = "2", 5*time.Hour+2
	if h.again(5*time.Hour+2, without0) {
		t.Error("it may not join though it was started anew")
	}
}
