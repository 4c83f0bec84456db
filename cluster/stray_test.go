package cluster

import (
	"context"
	"testing"

	"github.com/strata-storage/strata/cluster/record"
)

// A node that does not know that it has attached a volume gives it up when another one
// wants it, whether somebody has it open there or not.
func TestStray(t *testing.T) {
	t.Parallel()
	for name, opened := range map[string]bool{"nobody": false, "somebody who asks for nothing": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := several(t, 2)
			must(t, nodes[1].Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize}))
			lost := nodes[1]
			if opened {
				idle, err := lost.Probe(t.Context(), "vm1", "")
				must(t, err)
				defer idle.Close()
			}
			_, _, err := lost.catalog.Attach(t.Context(), "vm1", lost.run.current().ID(), record.Attachment{Node: lost.ID(), Incarnation: lost.incarnation})
			must(t, err)
			dev := open(t, nodes[0], "vm1")
			fill(t, dev, 0, 8192, 1)
			if got := gateway(t, nodes[0], "vm1"); got != nodes[0].ID() {
				t.Errorf("the gateway is %s", got)
			}
			check(t, open(t, lost, "vm1"), 0, 8192, 1)
		})
	}
}

// A volume that is of no use to a node any more, whose users there ask for nothing, is given
// up when another node wants it.
func TestBrokenElsewhere(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	near, far := shared(t, nodes, 1, 0)
	fill(t, near, 0, 8192, 1)
	must(t, far.Close())
	h := holdFor(t, nodes[1], "vm1")
	h.active.Load().own.Abandon(context.Canceled)
	far = open(t, nodes[0], "vm1")
	check(t, far, 0, 8192, 1)
	fill(t, far, 0, 8192, 2)
	if got := gateway(t, nodes[0], "vm1"); got != nodes[0].ID() {
		t.Errorf("the gateway is %s", got)
	}
	check(t, near, 0, 8192, 2)
}

// Who attaches a volume for somebody who does not wait any more gives it up again.
func TestDetachUnwanted(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 1 << 20}))
	open(t, n, "vm1")
	h := holdFor(t, n, "vm1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.mu.Lock()
	must(t, h.detach(ctx))
	h.mu.Unlock()
	if got := gateway(t, n, "vm1"); got != "" {
		t.Errorf("the gateway is %s", got)
	}
}

// holdFor is the hold of a volume that is open.
func holdFor(t testing.TB, n *Node, volume string) *hold {
	t.Helper()
	head, _ := n.View().Head(volume)
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.holds[head.Line()]
	if h == nil {
		t.Fatalf("the volume %s is not held", volume)
	}
	return h
}

// A name means the same at all nodes at once.
func TestNames(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	ctx := t.Context()
	spec := record.Spec{Size: 1 << 20, ObjectSize: record.MinObjectSize}
	must(t, nodes[0].Create(ctx, "vm", spec))
	for range 20 {
		must(t, nodes[0].Snapshot(ctx, "vm", "monday"))
		snap, err := nodes[1].OpenSnapshot(ctx, "vm", "monday")
		must(t, err)
		must(t, snap.Close())
		must(t, nodes[0].Snapshot(ctx, "vm", "tuesday"))
		snap, err = nodes[1].Probe(ctx, "vm", "tuesday")
		must(t, err)
		must(t, snap.Close())
		// What was called so before is not meant.
		must(t, nodes[0].Rename(ctx, "vm", "old"))
		must(t, nodes[0].Create(ctx, "vm", spec))
		must(t, nodes[1].Snapshot(ctx, "vm", "wednesday"))
		must(t, nodes[0].Grow(ctx, "vm", 2<<20))
		dev := open(t, nodes[1], "vm")
		if size := dev.Info().Size; size != 2<<20 {
			t.Fatalf("it has %d bytes", size)
		}
		must(t, dev.Close())
		must(t, nodes[0].DeleteAll(ctx, "old"))
		if _, ok := nodes[1].Latest(ctx).Head("old"); ok {
			t.Fatal("it is still there")
		}
		must(t, nodes[1].DeleteAll(ctx, "vm"))
		must(t, nodes[0].Create(ctx, "vm", spec))
	}
}
