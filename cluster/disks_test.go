package cluster

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/record"
)

// weights are those of the disks of a cluster, in MiB, in order, and "failed" for disks that
// are.
func weights(t testing.TB, n *Node) (list []int64, failed int) {
	t.Helper()
	must(t, n.seenAll(t.Context(), nil))
	for _, e := range n.View().Disks.All() {
		list = append(list, e.Record.Weight>>20)
		if e.Record.Failed != "" {
			failed++
		}
	}
	slices.Sort(list)
	return list, failed
}

// A node has several disks, of all kinds, keeps those it has had before, gets more, and
// goes on without one that is gone.
func TestSeveralDisks(t *testing.T) {
	t.Parallel()
	o := small(tempDir(t))
	dir, file, more := tempDir(t), filepath.Join(tempDir(t), "slab"), filepath.Join(tempDir(t), "more")
	o.Disks = []DiskOptions{{Path: dir, Size: 128 << 20}, {Path: file, Size: 256 << 20, Weight: 64 << 20}}
	n := start(t, o)
	if got, _ := weights(t, n); !slices.Equal(got, []int64{64, 128}) {
		t.Errorf("the weights are %v", got)
	}
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 8 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 8<<20, 1)
	for id, own := range n.disks {
		if own.disk.Stats().Used == 0 {
			t.Errorf("nothing is on disk %s", id)
		}
	}
	must(t, stop(n))

	o.Disks = []DiskOptions{{Path: more, Size: 64 << 20}, {Path: file, Weight: 32 << 20}}
	n = start(t, o)
	if got, _ := weights(t, n); !slices.Equal(got, []int64{32, 64, 128}) {
		t.Errorf("the weights are %v", got)
	}
	check(t, open(t, n, "vm1"), 0, 8<<20, 1)
	// Groups that have moved to the new one by now go back: it will be away.
	for _, d := range n.is.Disks {
		if d.Path == more {
			_, err := n.Carry(t.Context(), Intent{Kind: Weigh, ID: d.ID}, false)
			must(t, err)
			emptied(t, n, d.ID)
		}
	}
	must(t, stop(n))

	o.Disks = nil
	must(t, os.Rename(more, more+".away"))
	n = start(t, o)
	if got, failed := weights(t, n); len(got) != 3 || failed != 1 || len(n.disks) != 2 {
		t.Errorf("of the disks %v %d have failed, and %d are used", got, failed, len(n.disks))
	}
	check(t, open(t, n, "vm1"), 0, 8<<20, 1)
	must(t, stop(n))
	must(t, os.Rename(more+".away", more))
	n = start(t, o)
	if _, failed := weights(t, n); failed != 0 {
		t.Error("a disk that is back has failed")
	}
}

// emptied waits until a disk is in no group.
func emptied(t testing.TB, n *Node, disk string) {
	t.Helper()
	is := func(m record.Member) bool { return m.Disk == disk }
	for v := n.View(); ; {
		left := 0
		for _, g := range v.Groups.All() {
			if slices.ContainsFunc(g.Record.Members, is) || slices.ContainsFunc(g.Record.Joining, is) {
				left++
			}
		}
		if left == 0 {
			return
		}
		var err error
		if v, err = n.state.Next(t.Context(), v); err != nil {
			t.Fatalf("%d groups are on disk %s: %v", left, disk, err)
		}
	}
}

// What is in the way of a disk is not lost, and the message says what it is.
func TestDiskRefused(t *testing.T) {
	t.Parallel()
	first := small(tempDir(t))
	theirs, photos := filepath.Join(tempDir(t), "theirs"), filepath.Join(tempDir(t), "photos")
	first.Disks = []DiskOptions{{Path: theirs, Size: 64 << 20}}
	n := start(t, first)
	id := slices.Collect(maps.Keys(n.disks))[0]
	must(t, stop(n))
	must(t, os.WriteFile(photos, append([]byte("photos"), make([]byte, 70<<20)...), 0o600))
	for _, x := range []struct {
		o    Options
		want error
		says string
	}{
		{Options{Disks: []DiskOptions{{Path: theirs}}}, home.ErrOther, "it is the disk " + id + " of another node or another cluster, or was forgotten"},
		{Options{Disks: []DiskOptions{{Path: photos}}}, home.ErrForeign, "there is something in it, at byte 0"},
		{Options{Disks: []DiskOptions{{Path: theirs}, {Path: theirs}}}, nil, "is there twice"},
		{Options{Disks: []DiskOptions{{Size: 1}}}, nil, "a disk of 1 bytes, expected 67108864 at least"},
		{Options{Disks: []DiskOptions{{Weight: -1}}}, nil, "the weight -1, expected 0 or more"},
		{Options{Disks: []DiskOptions{{}}, GatewayOnly: true}, nil, "only a gateway with 1 disk, expected none"},
	} {
		x.o.Dir = tempDir(t)
		for range 2 { // the first attempt gives the second one no right
			_, err := Start(t.Context(), x.o)
			if err == nil || x.want != nil && !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("%+v: %v, expected %q", x.o.Disks, err, x.says)
			}
		}
	}
	again := start(t, first) // it was not touched
	must(t, stop(again))
	o := small(tempDir(t))
	o.Disks = []DiskOptions{{Path: theirs, Overwrite: true}}
	must(t, stop(start(t, o)))
	// The one that has lost its disk goes on without it.
	if again = start(t, first); len(again.disks) != 0 || len(again.broken) != 1 {
		t.Errorf("disks %v, broken %v", again.disks, again.broken)
	}
}

// A node without disks serves volumes like all others, and stays one without disks.
func TestGatewayOnly(t *testing.T) {
	t.Parallel()
	nodes := several(t, 1)
	o := networked(t)
	token, err := nodes[0].Token(t.Context(), 1<<40)
	must(t, err)
	o.Join, o.Token, o.GatewayOnly = nodes[0].o.Door, token, true
	g := start(t, o)
	must(t, g.Create(t.Context(), "vm1", record.Spec{Size: 8 << 20}))
	fill(t, open(t, g, "vm1"), 0, 1<<20, 1)
	if len(g.disks) != 0 || g.View().Disks.Len() != 1 {
		t.Errorf("%d disks, %d of the node", g.View().Disks.Len(), len(g.disks))
	}
	must(t, stop(g))
	o.GatewayOnly = false
	if g = start(t, o); len(g.disks) != 0 {
		t.Errorf("it has got %d disks", len(g.disks))
	}
	check(t, open(t, g, "vm1"), 0, 1<<20, 1)
	must(t, stop(nodes[0]))
	o = nodes[0].o
	o.GatewayOnly = true
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the node has 1 disk and is to be only a gateway") {
		t.Errorf("a node with a disk becomes a gateway: %v", err)
	}
}
