package cluster

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/upkeep"
)

// rot flips a bit of a block in the slab of a node, which has what fill has put at off.
func rot(t testing.TB, n *Node, off int64, seed uint64) {
	t.Helper()
	at := whereIs(t, n, off, seed)
	f, err := os.OpenFile(n.home.Slab(0), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at+7)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, at+7)
	must(t, err)
}

// whereIs is where the slab of a node has what fill has put at off.
func whereIs(t testing.TB, n *Node, off int64, seed uint64) int64 {
	t.Helper()
	want := make([]byte, 4096)
	blocktest.Fill(want, off, seed)
	f, err := os.Open(n.home.Slab(0))
	must(t, err)
	defer f.Close()
	have := make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(have)) {
		k, err := f.ReadAt(have, at)
		if i := bytes.Index(have[:k], want); i >= 0 {
			return at + int64(i)
		}
		if errors.Is(err, io.EOF) {
			t.Fatalf("the slab does not have the block at %d", off)
		}
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, n *Node, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); n.pause(t.Context(), 10*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// damaged makes a volume of three copies with a snapshot, each with 1 MiB of its own.
func damaged(t testing.TB) (nodes []*Node, dev block.Device) {
	t.Helper()
	nodes = several(t, 3)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev = open(t, nodes[0], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, nodes[0].Snapshot(t.Context(), "vm1", "monday"))
	fill(t, dev, 0, 1<<20, 2)
	must(t, dev.Flush(t.Context()))
	return nodes, dev
}

// sound waits until the slabs of all nodes have what was written.
func sound(t testing.TB, nodes []*Node) {
	t.Helper()
	for _, n := range nodes {
		for _, d := range n.disks {
			eventually(t, n, "there is still rot", func() bool {
				bad := 0
				_, err := d.disk.Check(t.Context(), true, func(error) { bad++ })
				must(t, err)
				return bad == 0
			})
		}
	}
}

// A read that meets rot returns what was written, from another member, and the block is
// mended at once: that of a head, and that of a snapshot.
func TestReadMends(t *testing.T) {
	t.Parallel()
	nodes, dev := damaged(t)
	rot(t, nodes[0], 8192, 1)
	rot(t, nodes[0], 20480, 2)
	check(t, dev, 0, 1<<20, 2)
	snap, err := nodes[0].OpenSnapshot(t.Context(), "vm1", "monday")
	must(t, err)
	defer snap.Close()
	check(t, snap, 0, 1<<20, 1)
	sound(t, nodes)
	check(t, snap, 0, 1<<20, 1)
	check(t, dev, 0, 1<<20, 2)
}

// A scrub finds and mends rot that nobody has met, says how much, and notes when it was.
func TestScrub(t *testing.T) {
	t.Parallel()
	nodes, dev := damaged(t)
	rot(t, nodes[1], 4096, 1)
	rot(t, nodes[1], 40960, 2)
	rot(t, nodes[2], 4096, 1)
	must(t, nodes[2].Scrub(t.Context(), true))
	until(t, nodes[0], "the scrub does not end", func(v *record.View) bool {
		for _, h := range v.Health.All() {
			if p := h.Record.Data; p.Ordered.IsZero() || p.Ended.Before(p.Begun) || p.Begun.Before(p.Ordered) {
				return false
			}
		}
		return v.Health.Len() == 3
	})
	bad, mended, objects := int64(0), int64(0), int64(0)
	for _, h := range nodes[0].View().Health.All() {
		bad, mended, objects = bad+h.Record.Data.Bad, mended+h.Record.Data.Mended, objects+h.Record.Data.Objects
	}
	if bad != 3 || mended != 3 || objects != 3*16 {
		t.Errorf("%d blocks of %d objects were bad, %d are mended", bad, objects, mended)
	}
	sound(t, nodes)
	check(t, dev, 0, 1<<20, 2)
}

// What nobody has any more is found and reported, and nothing is invented.
func TestScrubCannotMend(t *testing.T) {
	t.Parallel()
	nodes, dev := damaged(t)
	for _, n := range nodes {
		rot(t, n, 4096, 1)
	}
	found, err := nodes[1].Check(t.Context(), "vm1", upkeep.CheckOptions{Data: true})
	must(t, err)
	if found.Bad != 3 || found.Mended != 0 || len(found.Findings) != 3 {
		t.Errorf("a check that changes nothing: %+v", found)
	}
	found, err = nodes[1].Check(t.Context(), "vm1", upkeep.CheckOptions{Data: true, Mend: true})
	must(t, err)
	if found.Bad != 3 || found.Mended != 0 || len(found.Findings) != 3 || !strings.Contains(found.Findings[0], "nobody else") {
		t.Errorf("a check: %+v", found)
	}
	snap, err := nodes[0].OpenSnapshot(t.Context(), "vm1", "monday")
	must(t, err)
	defer snap.Close()
	if err := snap.ReadAt(t.Context(), make([]byte, 4096), 4096, 0); err == nil {
		t.Error("what is lost can be read")
	}
	check(t, snap, 8192, 1<<19, 1)
	check(t, dev, 0, 1<<20, 2)
}

// What a disk has of a version that does not exist is reported.
func TestOrphans(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	ctx := t.Context()
	must(t, n.Create(ctx, "vm1", record.Spec{Size: 1 << 20}))
	fill(t, open(t, n, "vm1"), 0, 8192, 1)
	must(t, n.Snapshot(ctx, "vm1", "monday"))
	must(t, n.Clone(ctx, "vm1", "monday", "vm2"))
	dev := open(t, n, "vm2")
	fill(t, dev, 0, 4096, 2)
	must(t, dev.Close())
	must(t, n.letGo(ctx, "vm2"))
	h, _ := n.View().Head("vm2")
	volume, err := record.Encode(record.VolumeKey(h.Line().Family), h.Volume.Record)
	must(t, err)
	r, err := n.store.Txn(ctx, coord.Txn{Then: []coord.Op{
		coord.Delete(record.NameKey("vm2")), coord.Delete(record.VersionKey(h.Line().Family, h.Name.Record.Head)),
		coord.Put(record.VolumeKey(h.Line().Family), volume),
	}})
	must(t, err)
	must(t, n.seen(ctx, r.Revision, nil))
	found, err := n.Check(ctx, "vm1", upkeep.CheckOptions{Data: true, Mend: true})
	must(t, err)
	if found.Bad != 1 || len(found.Findings) != 1 || !strings.Contains(found.Findings[0], "has version 3, which does not exist") {
		t.Errorf("the check has found %+v", found)
	}
}

// A copy that differs although nobody has written is found by its digest, and joins again.
func TestCopiesDiffer(t *testing.T) {
	t.Parallel()
	nodes, dev := damaged(t)
	must(t, dev.Close())
	must(t, nodes[0].letGo(t.Context(), "vm1")) // so that nothing is dirty
	var odd *ownDisk
	for _, d := range nodes[1].disks {
		odd = d
	}
	n := 0
	for s, err := range odd.disk.List(t.Context(), 0, ^uint64(0)) {
		must(t, err)
		if n++; n%5 == 0 {
			must(t, odd.disk.Remove(t.Context(), s.Object))
		}
	}
	must(t, odd.disk.Flush(t.Context()))
	found, err := nodes[2].Check(t.Context(), "vm1", upkeep.CheckOptions{})
	must(t, err)
	if found.Bad != 3 || found.Mended != 0 {
		t.Errorf("the check has found %+v", found)
	}
	must(t, nodes[0].Scrub(t.Context(), false))
	eventually(t, nodes[0], "the copy still differs", func() bool {
		found, err := nodes[2].Check(t.Context(), "vm1", upkeep.CheckOptions{Data: true})
		return err == nil && found.Bad == 0
	})
	healthy(t, nodes[0], nodes[1].incarnation)
	wantBlocks(t, nodes, 2*mib)
	check(t, open(t, nodes[1], "vm1"), 0, 1<<20, 2)
}

// A disk that groups have moved away from gets rid of their data.
func TestCleaned(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize, Copies: 2, MinCopies: 1}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 8<<20, 1)
	must(t, dev.Flush(t.Context()))
	for id, d := range nodes[1].disks {
		r, _ := nodes[1].View().Disks.Get(id)
		r.Record.Weight = 0
		value, err := record.Encode(record.DiskKey(id), r.Record)
		must(t, err)
		_, err = nodes[0].store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put(record.DiskKey(id), value)}})
		must(t, err)
		eventually(t, nodes[1], "the disk is not empty", func() bool { return d.disk.Stats().Used == 0 })
	}
	cleaned(t, []*Node{nodes[0], nodes[2]}, 8*mib)
	check(t, dev, 0, 8<<20, 1)
}

// A scrub that is suspended goes on where it was, also after a restart.
func TestScrubGoesOn(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 8 << 20, ObjectSize: record.MinObjectSize}))
	fill(t, open(t, n, "vm1"), 0, 4<<20, 1)
	n.Suspend("data")
	must(t, n.Scrub(t.Context(), true))
	until(t, n, "the scrub does not begin", func(v *record.View) bool {
		for _, h := range v.Health.All() {
			return !h.Record.Data.Begun.IsZero()
		}
		return false
	})
	eventually(t, n, "no job can be seen", func() bool {
		for _, j := range n.Jobs() {
			if j.Kind == "data" && j.Suspended && j.Total == 4<<20 {
				return true
			}
		}
		return false
	})
	if all, err := n.AllWork(t.Context()); err != nil || len(all) != 1 || len(all[0].Jobs) == 0 {
		t.Errorf("the jobs of all nodes are %v, %v", all, err)
	}
	must(t, stop(n))
	n = start(t, n.o)
	until(t, n, "the scrub does not go on", func(v *record.View) bool {
		for _, h := range v.Health.All() {
			return h.Record.Data.Ended.After(h.Record.Data.Begun) && h.Record.Data.Objects == 64
		}
		return false
	})
}

// A check of a small volume does not look at all groups that there are, but at what its
// snapshots have beyond its end.
func TestCheckOfLittle(t *testing.T) {
	t.Parallel()
	const size = record.MinObjectSize
	n := start(t, small(tempDir(t)))
	ctx := t.Context()
	must(t, n.Create(ctx, "large", record.Spec{Size: 64 * size, ObjectSize: size}))
	must(t, n.Create(ctx, "vm1", record.Spec{Size: size, ObjectSize: size}))
	put := func(name string, off int64) {
		dev := open(t, n, name)
		fill(t, dev, off, size, 1)
		must(t, dev.Close())
	}
	put("large", 0)
	put("vm1", 0)
	finds := func(objects int) {
		t.Helper()
		groups := 0
		found, err := n.Check(ctx, "vm1", upkeep.CheckOptions{Data: true, Progress: func(_, total int, _ *upkeep.Found) { groups = total }})
		must(t, err)
		if groups != objects || found.Bad != 0 || found.Bytes != int64(objects)*size {
			t.Errorf("%d groups, %+v, expected %d objects", groups, found, objects)
		}
	}
	finds(1)
	must(t, n.Snapshot(ctx, "vm1", "less"))
	must(t, n.Grow(ctx, "vm1", 2*size))
	put("vm1", size)
	must(t, n.Rollback(ctx, "vm1", "less", "more"))
	finds(2)
}
