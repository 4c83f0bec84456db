package cluster

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/peer"
)

// copyWhole is copyDir with a copy of the slabs.
func copyWhole(t testing.TB, from string) string {
	t.Helper()
	to := copyDir(t, from)
	must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "slab" {
			return err
		}
		rel, err := filepath.Rel(to, path)
		must(t, err)
		must(t, os.Remove(path))
		return copySparse(filepath.Join(from, rel), path)
	}))
	return to
}

// copySparse copies a file that is mostly zeros.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	p, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := in.ReadAt(p, off)
		if !bytes.Equal(p[:n], zeros[:n]) {
			if _, err := out.WriteAt(p[:n], off); err != nil {
				return err
			}
		}
		if off += int64(n); errors.Is(err, io.EOF) {
			return out.Truncate(off)
		}
		if err != nil {
			return err
		}
	}
}

// content is what the disks of a node have.
func (n *Node) content(t testing.TB) map[disk.Object]uint64 {
	t.Helper()
	all := map[disk.Object]uint64{}
	for _, d := range n.disks {
		for s, err := range d.disk.List(t.Context(), 0, ^uint64(0)) {
			must(t, err)
			all[s.Object] = s.Digest
		}
	}
	return all
}

// equal verifies that nodes have the same copies.
func equal(t testing.TB, nodes ...*Node) {
	t.Helper()
	first := nodes[0].content(t)
	if len(first) == 0 {
		t.Error("there is nothing on a node")
	}
	for _, n := range nodes[1:] {
		is := n.content(t)
		for o, digest := range first {
			if is[o] != digest {
				t.Errorf("object %v is %016x on node %s, and %016x on %s", o, digest, nodes[0].ID(), is[o], n.ID())
			}
		}
		if len(is) != len(first) {
			t.Errorf("%d objects are on node %s, and %d on %s", len(first), nodes[0].ID(), len(is), n.ID())
		}
	}
}

// A copy of the directory of a running node that is started in its place brings back nothing
// of what it was: the disk joins again, and gets what it misses. When it misses so much that
// the node has noted that it went on, it is refused, as it might be all that is left.
func TestCopyTakesThePlace(t *testing.T) {
	t.Parallel()
	nodes := severalWith(t, 3, func(i int, o *Options) {
		o.DiskSize = minDisk
		if i > 0 {
			o.Agreed, o.Votes, o.Door = "", "", "" // the votes of a copy are another matter
		}
	})
	gateway, original := nodes[0], nodes[2]
	must(t, gateway.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, gateway, "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, dev.Flush(t.Context()))
	must(t, original.noteAge(t.Context()))
	o := original.o
	o.Dir = copyWhole(t, original.o.Dir)
	fill(t, dev, 0, 1<<20, 2)
	fill(t, dev, 4<<20, 1<<20, 2)
	must(t, dev.Flush(t.Context()))
	original.crash()
	copied := start(t, o)
	healthy(t, gateway, copied.incarnation)
	check(t, dev, 0, 1<<20, 2)
	// It reads what lies nearest.
	must(t, dev.Flush(t.Context()))
	must(t, dev.Close())
	must(t, gateway.letGo(t.Context(), "vm1"))
	must(t, copied.seenAll(t.Context(), nil))
	dev = open(t, copied, "vm1")
	check(t, dev, 0, 1<<20, 2)
	check(t, dev, 4<<20, 1<<20, 2)
	equal(t, nodes[0], nodes[1], copied)

	must(t, copied.noteAge(t.Context()))
	older := o
	older.Dir = copyWhole(t, o.Dir)
	fill(t, dev, 0, 1<<20, 3)
	must(t, dev.Flush(t.Context()))
	must(t, copied.noteAge(t.Context()))
	must(t, dev.Close())
	copied.crash()
	for _, dir := range []string{older.Dir, original.o.Dir} {
		older.Dir = dir
		if _, err := Start(t.Context(), older); !errors.Is(err, ErrOlder) {
			t.Errorf("an older copy starts: %v", err)
		}
	}
	back := start(t, o)
	healthy(t, gateway, back.incarnation)
	check(t, open(t, gateway, "vm1"), 0, 1<<20, 3)
	equal(t, nodes[0], nodes[1], back)
}

// What a node has written while it ran is noted when it is stopped, so that a copy from before
// is told from it; and nothing is noted of one that has written nothing.
func TestAgeAtTheEnd(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	age := func(n *Node) int64 {
		is, _ := n.home.Made()
		return is.Starts
	}
	must(t, nodes[1].noteAge(t.Context()))
	before := age(nodes[1])
	must(t, nodes[1].noteAge(t.Context()))
	if now := age(nodes[1]); now != before {
		t.Errorf("the age has gone from %d to %d for nothing", before, now)
	}
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, dev.Flush(t.Context()))
	o := nodes[1].o
	o.Dir = copyWhole(t, o.Dir)
	must(t, stop(nodes[1]))
	if _, err := Start(t.Context(), o); !errors.Is(err, ErrOlder) {
		t.Errorf("a copy from before the end starts: %v", err)
	}
	// If there is nothing else it becomes that of the node, and the other one is the older one.
	o.OlderCopy = true
	must(t, stop(start(t, o)))
	o.OlderCopy = false
	start(t, o)
	check(t, dev, 0, 1<<20, 1)
	was := nodes[1].o
	was.Agreed, was.Votes, was.Door = peer.FreeAddress(t), peer.FreeAddress(t), peer.FreeAddress(t)
	if _, err := Start(t.Context(), was); !errors.Is(err, ErrCopy) && !errors.Is(err, ErrOlder) {
		t.Errorf("two of one node run: %v", err)
	}
}
