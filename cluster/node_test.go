package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/record"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir is one whose path is short enough for sockets.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// small are options for a node that costs little.
func small(dir string) Options {
	return Options{Dir: dir, DiskSize: 256 << 20, Groups: 8, Cache: 4 << 20}
}

func start(t testing.TB, o Options) *Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := Start(ctx, o)
	must(t, err)
	t.Cleanup(func() { _ = stop(n) })
	return n
}

func stop(n *Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return n.Close(ctx)
}

func open(t testing.TB, n *Node, name string) block.Device {
	t.Helper()
	dev, err := n.Open(t.Context(), name)
	must(t, err)
	t.Cleanup(func() { _ = dev.Close() })
	return dev
}

// check verifies that dev has at off what Fill of that seed makes.
func check(t testing.TB, dev block.Device, off int64, n int, seed uint64) {
	t.Helper()
	got, want := make([]byte, n), make([]byte, n)
	blocktest.Fill(want, off, seed)
	must(t, dev.ReadAt(context.Background(), got, off, 0))
	if string(got) != string(want) {
		t.Errorf("the %d bytes at %d are not those of seed %d", n, off, seed)
	}
}

func fill(t testing.TB, dev block.Device, off int64, n int, seed uint64) {
	t.Helper()
	must(t, write(dev, off, n, seed))
}

func write(dev block.Device, off int64, n int, seed uint64) error {
	p := make([]byte, n)
	blocktest.Fill(p, off, seed)
	return dev.WriteAt(context.Background(), p, off, 0)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	number := 0
	blocktest.Run(t, func(t testing.TB) block.Device {
		number++
		name := fmt.Sprint("v", number)
		must(t, n.Create(t.Context(), name, record.Spec{Size: 300_000, ObjectSize: record.MinObjectSize}))
		return open(t, n, name)
	}, blocktest.Seeds(2), blocktest.Reopen(restarted))
}

// restarted makes a volume that each call opens on a node that was stopped and started.
func restarted(t testing.TB) func() block.Device {
	dir := tempDir(t)
	var n *Node
	return func() block.Device {
		if n != nil {
			must(t, stop(n))
		}
		created := n != nil
		if n = start(t, small(dir)); !created {
			must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 300_000, ObjectSize: record.MinObjectSize}))
		}
		return open(t, n, "vm1")
	}
}

// What was flushed is there after a stop, what a snapshot has stays, and a second
// process is kept out meanwhile.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	n := start(t, small(dir))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 8 << 20}))
	dev := open(t, n, "vm1")
	fill(t, dev, 4096, 1<<20, 1)
	must(t, n.Snapshot(t.Context(), "vm1", "monday"))
	fill(t, dev, 4096, 4096, 2)
	if _, err := Start(t.Context(), small(dir)); !errors.Is(err, home.ErrInUse) {
		t.Errorf("started twice: %v", err)
	}
	must(t, stop(n))
	if err := dev.Flush(t.Context()); !errors.Is(err, block.ErrClosed) {
		t.Errorf("a device of a node that was stopped: %v", err)
	}
	again := start(t, small(dir))
	if again.ID() != n.ID() || again.Cluster() != n.Cluster() || again.incarnation == n.incarnation {
		t.Errorf("node %s of %s became %s of %s", n.ID(), n.Cluster(), again.ID(), again.Cluster())
	}
	dev = open(t, again, "vm1")
	check(t, dev, 4096, 4096, 2)
	check(t, dev, 8192, 1<<20-4096, 1)
	must(t, again.Clone(t.Context(), "vm1", "monday", "vm2"))
	check(t, open(t, again, "vm2"), 4096, 1<<20, 1)
}

// After a crash what was flushed is there at once, although the lease of the process
// that is dead is not over.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	o := small(dir)
	o.Lease = 5 * time.Minute
	n := start(t, o)
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 8 << 20}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, dev.Flush(t.Context()))
	fill(t, dev, 4<<20, 4096, 2)
	n.crash()
	again := start(t, o)
	check(t, open(t, again, "vm1"), 0, 1<<20, 1)
}

// crash ends what a process would end with its death.
func (n *Node) crash() {
	n.mu.Lock()
	n.closing = true
	n.mu.Unlock()
	_ = n.store.Close() // leases are left to expire
	n.voting.seat.Abort()
	_ = n.end()
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	ctx := t.Context()
	must(t, n.Create(ctx, "b", record.Spec{Size: 1 << 20}))
	must(t, n.Create(ctx, "a", record.Spec{Size: 1 << 20}))
	var names []string
	for name, h := range n.Volumes() {
		names = append(names, fmt.Sprint(name, h.Name.Record.Size, h.Volume.Record.Copies))
	}
	if got := strings.Join(names, " "); got != "a1048576 1 b1048576 1" {
		t.Errorf("the volumes are %s", got)
	}
	if err := n.Create(ctx, "a", record.Spec{Size: 1}); !errors.Is(err, record.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	if _, err := n.Open(ctx, "c"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("opened what is not there: %v", err)
	}
	dev := open(t, n, "a")
	if err := n.Delete(ctx, "a"); !errors.Is(err, record.ErrInUse) {
		t.Errorf("deleted while it is open: %v", err)
	}
	must(t, n.Rename(ctx, "a", "c"))
	fill(t, dev, 0, 4096, 1)
	must(t, n.Snapshot(ctx, "c", "s"))
	fill(t, dev, 0, 4096, 2)
	must(t, dev.Close())
	must(t, n.Rollback(ctx, "c", "s", "before"))
	must(t, n.Grow(ctx, "c", 2<<20))
	dev = open(t, n, "c")
	check(t, dev, 0, 4096, 1)
	if size := dev.Info().Size; size != 2<<20 {
		t.Errorf("it has %d bytes", size)
	}
	must(t, dev.Close())
	must(t, n.DeleteSnapshot(ctx, "c", "s"))
	must(t, n.DeleteSnapshot(ctx, "c", "before"))
	must(t, n.Delete(ctx, "c"))
	if _, err := n.Open(ctx, "c"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("opened what was deleted: %v", err)
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "photo.jpg"), nil, 0o600))
	if _, err := Start(t.Context(), small(dir)); !errors.Is(err, home.ErrForeign) {
		t.Errorf("a directory of something else: %v", err)
	}
	a, b := tempDir(t), tempDir(t)
	must(t, stop(start(t, small(a))))
	must(t, stop(start(t, small(b))))
	// The keys of another node, and then its disk.
	for part, says := range map[string]string{"keys": "by the certificate", "disks": "opening disk 0"} {
		must(t, os.Rename(filepath.Join(a, part), filepath.Join(a, part+".own")))
		must(t, os.CopyFS(filepath.Join(a, part), os.DirFS(filepath.Join(b, part))))
		if _, err := Start(t.Context(), small(a)); !errors.Is(err, home.ErrOther) || !strings.Contains(err.Error(), says) {
			t.Errorf("the %s of another node: %v", part, err)
		}
		must(t, os.RemoveAll(filepath.Join(a, part)))
		must(t, os.Rename(filepath.Join(a, part+".own"), filepath.Join(a, part)))
	}
	must(t, os.Rename(filepath.Join(a, "etcd"), filepath.Join(a, "etcd.own")))
	must(t, os.CopyFS(filepath.Join(a, "etcd"), os.DirFS(filepath.Join(b, "etcd"))))
	if _, err := Start(t.Context(), small(a)); !errors.Is(err, home.ErrOther) {
		t.Errorf("the records of another cluster: %v", err)
	}
}
