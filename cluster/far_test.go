package cluster

import (
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/record"
)

// gateway is the node that has attached a volume, as agreed now.
func gateway(t testing.TB, n *Node, volume string) string {
	t.Helper()
	must(t, n.seenAll(t.Context(), nil))
	h, _ := n.View().Head(volume)
	a, _ := n.View().Attachment(h.Line())
	return a.Node
}

// shared makes a volume that a node has attached, and opens it by another one.
func shared(t testing.TB, nodes []*Node, holder, other int) (near, far block.Device) {
	t.Helper()
	must(t, nodes[holder].Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize, MinCopies: 1}))
	near = open(t, nodes[holder], "vm1")
	must(t, nodes[other].seenAll(t.Context(), nil))
	return near, open(t, nodes[other], "vm1")
}

// Two nodes serve the same volume. The one whose clients are gone keeps it while the other
// one has some, and then gives it up.
func TestFar(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	near, far := shared(t, nodes, 1, 0)
	fill(t, far, 1000, 1<<20, 1)
	check(t, near, 1000, 1<<20, 1)
	fill(t, near, 0, 8192, 2)
	check(t, far, 0, 8192, 2)
	must(t, far.Zero(t.Context(), 0, 4096, 0))
	must(t, far.Trim(t.Context(), 0, 4096, 0))
	must(t, far.Flush(t.Context()))
	must(t, nodes[0].Snapshot(t.Context(), "vm1", "monday"))
	if err := nodes[0].Snapshot(t.Context(), "vm1", "monday"); !errors.Is(err, record.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	fill(t, far, 0, 8192, 3)
	if got := gateway(t, nodes[0], "vm1"); got != nodes[1].ID() {
		t.Errorf("the gateway is %s", got)
	}
	if err := nodes[0].Delete(t.Context(), "vm1"); !errors.Is(err, record.ErrInUse) {
		t.Errorf("deleted while it is open: %v", err)
	}
	must(t, near.Close())
	check(t, far, 0, 8192, 3)
	if got := gateway(t, nodes[0], "vm1"); got != nodes[1].ID() {
		t.Errorf("the gateway is %s though another node has a client", got)
	}
	if err := nodes[1].Delete(t.Context(), "vm1"); !errors.Is(err, record.ErrInUse) {
		t.Errorf("deleted while another node has a client: %v", err)
	}
	must(t, far.Close())
	far = open(t, nodes[0], "vm1")
	check(t, far, 0, 8192, 3)
	if got := gateway(t, nodes[0], "vm1"); got != nodes[0].ID() {
		t.Errorf("the gateway is %s when the other one has no clients", got)
	}
	must(t, far.Close())
	must(t, nodes[1].DeleteSnapshot(t.Context(), "vm1", "monday"))
	must(t, nodes[1].Delete(t.Context(), "vm1"))
}

// A client comes to another node while the one before is still there, as when a virtual
// machine is moved, and keeps its connection when that one is gone.
func TestMigration(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	must(t, nodes[1].Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize}))
	from := open(t, nodes[1], "vm1")
	fill(t, from, 0, 8192, 1)
	must(t, nodes[0].seenAll(t.Context(), nil))
	to, err := nodes[0].OpenFor(t.Context(), "vm1", Session{}, func() { t.Error("the connection was cut") })
	must(t, err)
	must(t, from.Close())
	check(t, to, 0, 8192, 1)
	fill(t, to, 0, 8192, 2)
	// Somebody else comes and goes.
	must(t, nodes[2].seenAll(t.Context(), nil))
	must(t, open(t, nodes[2], "vm1").Close())
	fill(t, to, 0, 8192, 3)
	check(t, to, 0, 8192, 3)
	must(t, to.Close())
	must(t, nodes[1].Delete(t.Context(), "vm1"))
}

func TestFarConformance(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	number := 0
	blocktest.Run(t, func(t testing.TB) block.Device {
		number++
		name := string(rune('a' + number))
		must(t, nodes[1].Create(t.Context(), name, record.Spec{Size: 300_000, ObjectSize: record.MinObjectSize}))
		open(t, nodes[1], name)
		must(t, nodes[0].seenAll(t.Context(), nil))
		return open(t, nodes[0], name)
	}, blocktest.Seeds(1))
}

// When the gateway stops, or dies, the clients of the other node see nothing of it.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(n *Node) error{
		"stop":  stop,
		"crash": func(n *Node) error { n.crash(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := several(t, 2)
			_, far := shared(t, nodes, 1, 0)
			fill(t, far, 0, 1<<20, 1)
			must(t, end(nodes[1]))
			check(t, far, 0, 1<<20, 1)
			fill(t, far, 4096, 1<<20, 2)
			must(t, far.Flush(t.Context()))
			if got := gateway(t, nodes[0], "vm1"); got != nodes[0].ID() {
				t.Errorf("the gateway is %s", got)
			}
			check(t, far, 0, 4096, 1)
			check(t, far, 4096, 1<<20, 2)
		})
	}
}

// When the gateway dies, the node that its client is at takes the volume over, and not a
// third one, which cannot do it any sooner.
func TestTakeOverByClients(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	_, far := shared(t, nodes, 1, 0)
	fill(t, far, 0, 1<<20, 1)
	nodes[1].crash()
	check(t, far, 0, 1<<20, 1)
	fill(t, far, 4096, 1<<20, 2)
	if got := gateway(t, nodes[0], "vm1"); got != nodes[0].ID() {
		t.Errorf("the gateway is %s, expected %s", got, nodes[0].ID())
	}
}

// What a client has sent before it went to another node is not carried out after what it
// has sent there.
func TestLateDuplicate(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	must(t, nodes[1].Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize, MinCopies: 1}))
	ended := 0
	before, err := nodes[1].OpenFor(t.Context(), "vm1", Session{}, func() { ended++ })
	must(t, err)
	defer before.Close()
	fill(t, before, 0, 8192, 1)
	must(t, nodes[0].seenAll(t.Context(), nil))
	must(t, nodes[0].store.Revoke(t.Context(), nodes[1].run.current().ID()))
	after := open(t, nodes[0], "vm1")
	fill(t, after, 0, 8192, 2)
	p := make([]byte, 4096)
	for what, err := range map[string]error{
		"write": before.WriteAt(t.Context(), p, 0, 0),
		"zero":  before.Zero(t.Context(), 0, 4096, 0),
		"trim":  before.Trim(t.Context(), 0, 4096, 0),
	} {
		if !errors.Is(err, ErrMoved) {
			t.Errorf("a late %s: %v", what, err)
		}
	}
	if ended != 3 {
		t.Errorf("the connection was cut %d times", ended)
	}
	check(t, after, 0, 8192, 2)
	check(t, before, 0, 8192, 2)
	must(t, before.Flush(t.Context()))
}

// A volume that somebody has open, at whichever node, keeps its snapshots when it is to be
// deleted with them.
func TestDeleteAll(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	near, far := shared(t, nodes, 0, 1)
	fill(t, near, 0, 4096, 1)
	for _, name := range []string{"monday", "tuesday"} {
		must(t, nodes[1].Snapshot(t.Context(), "vm1", name))
	}
	must(t, nodes[1].Clone(t.Context(), "vm1", "monday", "vm2"))
	for i, n := range nodes {
		if err := n.DeleteAll(t.Context(), "vm1"); !errors.Is(err, record.ErrInUse) {
			t.Errorf("deleted while it is open: %v", err)
		}
		must(t, n.seenAll(t.Context(), nil))
		if h, ok := n.View().Head("vm1"); !ok || h.Name.Record.Snapshots != 2 {
			t.Errorf("node %d: what is left is %+v", i, h)
		}
	}
	must(t, near.Close())
	must(t, far.Close())
	must(t, nodes[1].DeleteAll(t.Context(), "vm1"))
	if n := nodes[1].View().Names.Len(); n != 1 {
		t.Errorf("%d volumes are left", n)
	}
	check(t, open(t, nodes[1], "vm2"), 0, 4096, 1)
	if err := nodes[1].DeleteAll(t.Context(), "vm1"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}
