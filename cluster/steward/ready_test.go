package steward

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/record"
)

// What a gateway changes by itself: new groups are where the steward would have them,
// and one goes on that nobody has to be waited for.
func TestReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSite(t, 4, 1)
		defer c.close()
		old, fresh := record.GroupOf(3, 0), record.GroupOf(3, 7)
		ready := func() []Change {
			synctest.Wait()
			list, err := Ready(c.state.View(), []int{old, fresh})
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		list := ready()
		p, f := &Planner{}, (&Observer{}).Facts(c.state.View(), 0)
		wish, err := p.Wish(f, &Group{Number: fresh})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].Kind != Create || list[0].Epoch != 0 || !slices.Equal(disksOf(list[0].Record.Members), wish) {
			t.Fatalf("the changes are %+v, expected a group on %v", list, wish)
		}
		if m := list[0].Record.Members[0]; m.Incarnation != f.incarnation(m.Disk) {
			t.Errorf("the first member is %+v", m)
		}
		// Disks that do not live are left out.
		key := record.DiskKey(wish[0])
		c.put(key, record.Disk{ID: wish[0], Node: f.Disks[wish[0]].Node, Weight: 1, Failed: "an I/O error"})
		if list = ready(); len(list) != 1 || len(list[0].Record.Members) != 3 || slices.Contains(disksOf(list[0].Record.Members), wish[0]) {
			t.Errorf("the changes are %+v", list)
		}
		c.put(key, f.Disks[wish[0]].Disk)
		same, put, err := list[0].entry()
		if err != nil || same.Revision != 0 || put.Key != record.GroupKey(fresh) {
			t.Fatalf("%+v %+v %v", same, put, err)
		}
		c.put(put.Key, list[0].Record)
		if list = ready(); len(list) != 0 {
			t.Errorf("there is nothing to do, but %+v", list)
		}
		// All were started anew: it goes on. One is away: that is for the steward.
		g, epoch := c.state.View().Group(old)
		for i := range g.Members {
			g.Members[i].Incarnation = "gone"
		}
		c.put(record.GroupKey(old), g)
		if list = ready(); len(list) != 1 || list[0].Kind != Revive || list[0].Epoch <= epoch || list[0].Record.Revived != 1 {
			t.Errorf("the changes are %+v", list)
		}
		away := c.nodes[slices.IndexFunc(c.nodes, func(n *siteNode) bool { return "d"+n.id == g.Members[1].Disk })]
		if _, err := c.store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Delete(record.RunKey(away.id))}}); err != nil {
			t.Fatal(err)
		}
		if list = ready(); len(list) != 0 {
			t.Errorf("it should wait for node %s, but %+v", away.id, list)
		}
	})
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	empty, err := record.Follow(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	defer empty.Close()
	if _, err := Ready(empty.View(), []int{record.GroupOf(1, 0)}); !errors.Is(err, ErrNoDisk) {
		t.Errorf("without disks: %v", err)
	}
}
