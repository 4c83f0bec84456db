package cluster

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/peer"
)

// networked are the options of a node that has to do with others.
func networked(t testing.TB) Options {
	t.Helper()
	o := small(tempDir(t))
	o.Listen, o.Lease = "127.0.0.1:0", 2*time.Second
	o.Agreed, o.Votes, o.Door = peer.FreeAddress(t), peer.FreeAddress(t), peer.FreeAddress(t)
	return o
}

// several starts a cluster of so many nodes.
func several(t testing.TB, count int, set ...func(*Options)) []*Node {
	t.Helper()
	return severalWith(t, count, func(_ int, o *Options) {
		for _, f := range set {
			f(o)
		}
	})
}

// severalWith is several with other options of each.
func severalWith(t testing.TB, count int, edit func(i int, o *Options)) []*Node {
	t.Helper()
	options := func(i int) Options {
		o := networked(t)
		edit(i, &o)
		return o
	}
	nodes := []*Node{start(t, options(0))}
	token := ""
	if count > 1 {
		var err error
		token, err = nodes[0].Token(t.Context(), time.Minute)
		must(t, err)
	}
	for i := range count - 1 {
		other := options(i + 1)
		other.Join, other.Token = nodes[0].o.Door, token
		nodes = append(nodes, start(t, other))
	}
	for _, n := range nodes {
		must(t, n.seenAll(t.Context(), nil))
	}
	return nodes
}

// What was written by one node is read by another one, with the copies that are left.
func TestThree(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	if h, _ := nodes[0].View().Head("vm1"); h.Volume.Record.Copies != 3 {
		t.Errorf("it has %d copies", h.Volume.Record.Copies)
	}
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, dev.Flush(t.Context()))
	nodes[1].crash()
	fill(t, dev, 512<<10, 1<<20, 2)
	must(t, dev.Close())
	must(t, nodes[0].letGo(t.Context(), "vm1"))
	must(t, nodes[2].seenAll(t.Context(), nil))
	dev = open(t, nodes[2], "vm1")
	check(t, dev, 0, 512<<10, 1)
	check(t, dev, 512<<10, 1<<20, 2)
}

// A snapshot is read by all nodes while the volume is written, also when one of them is
// gone.
func TestSnapshotElsewhere(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 4096, 1<<20, 1)
	must(t, nodes[0].Snapshot(t.Context(), "vm1", "monday"))
	fill(t, dev, 0, 1<<20, 2)
	for _, n := range nodes {
		must(t, n.seenAll(t.Context(), nil))
		snap, err := n.OpenSnapshot(t.Context(), "vm1", "monday")
		must(t, err)
		defer snap.Close()
		check(t, snap, 4096, 1<<20, 1)
		check(t, snap, 4097, 100, 1)
		if err := snap.WriteAt(t.Context(), make([]byte, 4096), 0, 0); !errors.Is(err, block.ErrReadOnly) {
			t.Errorf("writing to a snapshot: %v", err)
		}
	}
	snap, err := nodes[2].OpenSnapshot(t.Context(), "vm1", "monday")
	must(t, err)
	defer snap.Close()
	nodes[1].crash()
	must(t, nodes[0].DeleteSnapshot(t.Context(), "vm1", "monday"))
	must(t, nodes[2].seenAll(t.Context(), nil))
	if err := snap.ReadAt(t.Context(), make([]byte, 4096), 4096, 0); !errors.Is(err, block.ErrInvalid) {
		t.Errorf("reading what was deleted: %v", err)
	}
	if _, err := nodes[2].OpenSnapshot(t.Context(), "vm1", "tuesday"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("opened what is not there: %v", err)
	}
	must(t, dev.Flush(t.Context())) // two copies have to be there for that
}

// A node that comes back gets what it has missed, and its copy is enough then.
func TestComeBack(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize, MinCopies: 1}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	nodes[1].crash()
	fill(t, dev, 512<<10, 1<<20, 2)
	must(t, dev.Flush(t.Context()))
	o := nodes[1].o
	back := start(t, o)
	healthy(t, nodes[0], back.incarnation)
	must(t, dev.Close())
	must(t, nodes[0].letGo(t.Context(), "vm1"))
	must(t, nodes[0].wire.Close()) // its disk is not needed
	must(t, back.seenAll(t.Context(), nil))
	dev = open(t, back, "vm1")
	check(t, dev, 0, 512<<10, 1)
	check(t, dev, 512<<10, 1<<20, 2)
}

// A disk that cannot reach another one that has what it needs tries again, though nothing
// else happens in the cluster.
func TestComeBackLater(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize, MinCopies: 1}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, nodes[1].Close(t.Context()))
	fill(t, dev, 512<<10, 1<<20, 2)
	o := nodes[1].o
	var cut atomic.Bool
	var tries atomic.Int64
	enough := make(chan struct{})
	cut.Store(true)
	o.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if cut.Load() && addr == nodes[0].listener.Addr().String() {
			if tries.Add(1) == 3 {
				close(enough)
			}
			return nil, errors.New("a trench")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	back := start(t, o)
	<-enough
	for last := int64(0); last != tries.Load(); { // until nothing more is tried for a while
		last = tries.Load()
		back.pause(t.Context(), 4*joinPause)
	}
	cut.Store(false)
	healthy(t, nodes[0], back.incarnation)
}

// After the power loss of all nodes everything that was flushed is there.
func TestWholeCluster(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	must(t, nodes[1].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[1], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, dev.Flush(t.Context()))
	fill(t, dev, 2<<20, 1<<20, 2)
	for i := range nodes {
		nodes[len(nodes)-1-i].crash()
	}
	// In any order: the first one is needed by the others.
	var others sync.WaitGroup
	for i := 1; i < len(nodes); i++ {
		others.Go(func() { nodes[i] = start(t, nodes[i].o) })
	}
	nodes[0] = start(t, nodes[0].o)
	others.Wait()
	must(t, nodes[2].seenAll(t.Context(), nil))
	dev = open(t, nodes[2], "vm1")
	check(t, dev, 0, 1<<20, 1)
	for _, n := range nodes {
		healthy(t, nodes[2], n.incarnation)
	}
	must(t, dev.Flush(t.Context()))
}

// A gateway whose lease is lost attaches its volumes anew, and nothing is lost.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	near, far := shared(t, nodes, 1, 0)
	for i := range 3 {
		fill(t, near, 0, 1<<20, uint64(i))
		must(t, nodes[0].store.Revoke(t.Context(), nodes[1].run.current().ID()))
		fill(t, near, 4096, 8192, uint64(10+i))
		must(t, near.Flush(t.Context()))
		check(t, far, 0, 4096, uint64(i))
		check(t, far, 4096, 8192, uint64(10+i))
		check(t, near, 12288, 1<<19, uint64(i))
	}
}

// A volume that is opened while the node has lost its lease is attached with the next one.
func TestAttachWithoutLease(t *testing.T) {
	t.Parallel()
	o := small(tempDir(t))
	o.Lease = 2 * time.Second
	n := start(t, o)
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 1 << 20}))
	must(t, n.store.Revoke(t.Context(), n.run.current().ID()))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 4096, 1)
	must(t, dev.Flush(t.Context()))
}

// healthy waits until a process is a member of all groups.
func healthy(t testing.TB, n *Node, incarnation string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for v := n.View(); ; {
		all := true
		for _, g := range v.Groups.All() {
			all = all && slices.ContainsFunc(g.Record.Members, func(m record.Member) bool { return m.Incarnation == incarnation })
		}
		if all {
			return
		}
		var err error
		if v, err = n.state.Next(ctx, v); err != nil {
			t.Fatalf("it is not a member of all groups: %v", err)
		}
	}
}
