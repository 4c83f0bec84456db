package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
)

// until waits until what is agreed is as it should be.
func until(t testing.TB, n *Node, what string, is func(v *record.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for v := n.View(); !is(v); {
		var err error
		if v, err = n.state.Next(ctx, v); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// settled waits until nothing is to be deleted any more but what is kept.
func settled(t testing.TB, n *Node, kept int) {
	t.Helper()
	until(t, n, "deleted versions stay", func(v *record.View) bool {
		doomed := 0
		for _, f := range v.Families.All() {
			for _, version := range f.Versions.All() {
				if version.Doomed {
					doomed++
				}
			}
		}
		return doomed == kept && v.Deletions.Len() == 0
	})
}

// blocks is how many blocks all disks of a node have.
func (n *Node) blocks(t testing.TB) (sum int64) {
	t.Helper()
	for _, d := range n.disks {
		must(t, d.disk.Flush(t.Context()))
		census, err := d.disk.Check(t.Context(), true, func(err error) { t.Errorf("node %s: %v", n.ID(), err) })
		must(t, err)
		sum += int64(census.Blocks)
	}
	return sum
}

// wantBlocks waits until all disks have so many blocks.
func wantBlocks(t testing.TB, nodes []*Node, want int64) {
	t.Helper()
	for _, n := range nodes {
		if got := n.blocks(t); got != want {
			t.Errorf("node %s has %d blocks, expected %d", n.ID(), got, want)
		}
	}
}

// mib is one MiB in blocks.
const mib = 1 << 20 / 4096

// What only a deleted snapshot had is freed on all disks, and later ones and clones keep
// what they need.
func TestDeleteSnapshots(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	n := nodes[0]
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	for i := range uint64(4) { // each snapshot has 1 MiB, of which half is written again
		fill(t, dev, int64(i)<<19, 1<<20, i+1)
		must(t, n.Snapshot(t.Context(), "vm1", fmt.Sprint("s", i)))
	}
	must(t, n.Clone(t.Context(), "vm1", "s1", "vm2"))
	wantBlocks(t, nodes, 4*mib)
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "s0"))
	settled(t, n, 0)
	// What s0 had in the second half, s1 has written.
	wantBlocks(t, nodes, 4*mib-mib/2)
	// What s1 has the clone needs, and of the first half of it s2 as well.
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "s1"))
	settled(t, n, 1)
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "s2"))
	settled(t, n, 1)
	clone := open(t, n, "vm2")
	check(t, clone, 0, 1<<19, 1)
	check(t, clone, 1<<19, 1<<20, 2)
	check(t, dev, 0, 1<<19, 1)
	check(t, dev, 1<<19, 1<<19, 2)
	check(t, dev, 3<<19, 1<<20, 4)
	// The clone has the other ones no more.
	must(t, clone.Close())
	must(t, n.Delete(t.Context(), "vm2"))
	settled(t, n, 0)
	wantBlocks(t, nodes, 5*mib/2)
	check(t, dev, 0, 1<<19, 1)
	check(t, dev, 1<<19, 1<<19, 2)
	check(t, dev, 3<<19, 1<<20, 4)
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "s3"))
	must(t, dev.Close())
	must(t, n.Delete(t.Context(), "vm1"))
	settled(t, n, 0)
	wantBlocks(t, nodes, 0)
	if got := n.View().Families.Len(); got != 0 {
		t.Errorf("%d families are left", got)
	}
	if n.View().Groups.Len() == 0 {
		t.Error("the groups have vanished")
	}
}

// A deletion goes on when a node dies in the middle, as soon as its groups have their
// copies again, and the node catches up when it is back.
func TestDeleteWhileNodesDie(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	n := nodes[0]
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 8<<20, 1)
	must(t, n.Snapshot(t.Context(), "vm1", "monday"))
	fill(t, dev, 0, 4<<20, 2)
	must(t, dev.Flush(t.Context()))
	for _, x := range nodes {
		x.Suspend("delete")
	}
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "monday"))
	until(t, n, "no deletion begins", func(v *record.View) bool { return v.Deletions.Len() == 1 })
	nodes[2].crash()
	nodes[0].Resume("delete")
	nodes[1].Resume("delete")
	nodes[2] = start(t, nodes[2].o)
	settled(t, n, 0)
	healthy(t, n, nodes[2].incarnation)
	check(t, dev, 0, 4<<20, 2)
	check(t, dev, 4<<20, 4<<20, 1)
	wantBlocks(t, nodes, 8*mib)
}

// A disk that was away while a whole volume was deleted gets rid of it when it is back.
func TestDeleteWhileAway(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	n := nodes[0]
	for _, name := range []string{"vm1", "vm2"} {
		must(t, n.Create(t.Context(), name, record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
		dev := open(t, n, name)
		fill(t, dev, 0, 4<<20, 1)
		must(t, n.Snapshot(t.Context(), name, "monday"))
		fill(t, dev, 0, 1<<20, 2)
		must(t, dev.Close())
	}
	must(t, n.letGo(t.Context(), "vm1"))
	nodes[2].crash()
	must(t, n.DeleteSnapshot(t.Context(), "vm2", "monday"))
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "monday"))
	must(t, n.Delete(t.Context(), "vm1"))
	settled(t, n, 0)
	nodes[2] = start(t, nodes[2].o)
	healthy(t, n, nodes[2].incarnation)
	cleaned(t, nodes, 4*mib)
	dev := open(t, nodes[1], "vm2")
	check(t, dev, 0, 1<<20, 2)
	check(t, dev, 1<<20, 3<<20, 1)
}

// cleaned waits until all disks have so many blocks in use.
func cleaned(t testing.TB, nodes []*Node, want int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		sum := int64(0)
		for _, n := range nodes {
			for _, d := range n.disks {
				sum += d.disk.Stats().Used / 4096
			}
		}
		if sum == want*int64(len(nodes)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("all disks have %d blocks in use, expected %d each", sum, want)
		}
		nodes[0].pause(t.Context(), 20*time.Millisecond)
	}
	wantBlocks(t, nodes, want)
}

// What a disk pulls when it joins is seen by all nodes.
func TestJoinIsSeen(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize, MinCopies: 1}))
	dev := open(t, nodes[0], "vm1")
	nodes[1].crash()
	fill(t, dev, 0, 8<<20, 1)
	must(t, dev.Flush(t.Context()))
	o := nodes[1].o
	// The joins wait before their first step until somebody has seen them.
	board := job.NewBoard()
	board.Suspend(job.Join)
	o.board = board
	back := start(t, o)
	eventually(t, nodes[0], "no join is seen", func() bool {
		all, _ := nodes[0].AllWork(t.Context())
		i := slices.IndexFunc(all, func(w Work) bool { return w.Node == back.ID() })
		if i < 0 {
			return false
		}
		for _, j := range all[i].Jobs {
			if j.Kind == job.Join && j.Suspended && j.Disk == back.disk().kept.ID {
				return true
			}
		}
		return false
	})
	back.Resume(job.Join)
	healthy(t, nodes[0], back.incarnation)
	eventually(t, back, "there are still jobs", func() bool { return len(back.Jobs()) == 0 })
}

// Objects that were written are not marked any more after a while, although the volume is
// open, and are compared by scrubs then.
func TestTidyWhileOpen(t *testing.T) {
	t.Parallel()
	nodes := severalWith(t, 2, func(_ int, o *Options) { o.Tidy = 50 * time.Millisecond })
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 4<<20, 1)
	for _, n := range nodes {
		eventually(t, n, "objects are still marked", func() bool {
			for range n.disk().disk.Dirty(t.Context(), 0, ^uint64(0)) {
				return false
			}
			return true
		})
	}
	check(t, dev, 0, 4<<20, 1)
	fill(t, dev, 0, 1<<20, 2)
	check(t, dev, 0, 1<<20, 2)
}

// Nothing is taken apart in groups with joining disks, which people can see, and it goes on
// when they have joined.
func TestDeleteWaitsForJoins(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	n := nodes[0]
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 4<<20, 1)
	must(t, n.Snapshot(t.Context(), "vm1", "monday"))
	fill(t, dev, 0, 2<<20, 2)
	must(t, dev.Flush(t.Context()))
	nodes[2].crash()
	fill(t, dev, 0, 4096, 3)
	o := nodes[2].o
	o.board = job.NewBoard()
	o.board.Suspend(job.Join)
	nodes[2] = start(t, o)
	until(t, n, "nothing joins", func(v *record.View) bool {
		for _, g := range v.Groups.All() {
			for _, m := range g.Record.Joining {
				if m.Incarnation == nodes[2].incarnation {
					return true
				}
			}
		}
		return false
	})
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "monday"))
	eventually(t, n, "no deletion waits", func() bool {
		for _, j := range n.Jobs() {
			if j.Kind == job.Delete && j.Waiting && j.Err != "" {
				return true
			}
		}
		return false
	})
	if f, _ := n.View().Families.Get(1); f.Versions.Len() != 2 {
		t.Errorf("there are %d versions", f.Versions.Len())
	}
	nodes[2].Resume(job.Join)
	settled(t, n, 0)
	healthy(t, n, nodes[2].incarnation)
	check(t, dev, 4096, 2<<20-4096, 2)
	check(t, dev, 2<<20, 2<<20, 1)
	wantBlocks(t, nodes, 4*mib)
}
