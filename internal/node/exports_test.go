package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/nbd"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A lab is a node under test, with a client of its control socket.
type lab struct {
	*Node
	*Client
	uri string // of its exports, without a name
}

// start starts a node that costs little.
func start(t testing.TB) *lab { return startWith(t, func(*cluster.Options) {}) }

func startWith(t testing.TB, edit func(*cluster.Options)) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "node") // short enough for sockets
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	control := filepath.Join(dir, "control.sock")
	o := cluster.Options{Dir: dir, DiskSize: 256 << 20, Groups: 8, Cache: 4 << 20}
	edit(&o)
	n, err := Start(t.Context(), Options{
		Cluster: o,
		Listen:  []listen.Address{{Kind: listen.TCP, Host: "127.0.0.1"}},
		Control: control, Grace: 10 * time.Second,
	})
	must(t, err)
	t.Cleanup(func() {
		n.Stop()
		must(t, n.Wait())
	})
	return &lab{n, NewClient(control), n.Addresses()[0].URI("", false)}
}

func (l *lab) dial(t testing.TB, name string) *nbd.Client {
	t.Helper()
	c, err := nbd.Dial(t.Context(), l.uri+name)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func fill(t testing.TB, dev block.Device, seed uint64) {
	t.Helper()
	p := make([]byte, 4096)
	blocktest.Fill(p, 0, seed)
	must(t, dev.WriteAt(context.Background(), p, 0, 0))
}

func check(t testing.TB, dev block.Device, seed uint64) {
	t.Helper()
	want, got := make([]byte, 4096), make([]byte, 4096)
	blocktest.Fill(want, 0, seed)
	must(t, dev.ReadAt(context.Background(), got, 0, 0))
	if !bytes.Equal(got, want) {
		t.Errorf("the first bytes are not those of seed %d", seed)
	}
}

// Volumes and snapshots are exports.
func TestExports(t *testing.T) {
	t.Parallel()
	l := start(t)
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "vm1", Size: 1 << 20})
	must(t, err)
	head := l.dial(t, "vm1")
	fill(t, head, 1)
	must(t, l.Cluster().Snapshot(t.Context(), "vm1", "monday"))
	list, err := nbd.List(t.Context(), l.uri)
	must(t, err)
	if len(list) != 2 || list[0].Name != "vm1" || list[1].Name != "vm1@monday" {
		t.Errorf("the exports are %+v", list)
	}
	fill(t, head, 2)
	snap := l.dial(t, "vm1@monday")
	check(t, head, 2)
	check(t, snap, 1)
	if !snap.Info().ReadOnly {
		t.Error("a snapshot can be written")
	}
	for _, name := range []string{"vm2", "vm1@tuesday", "", "a/b", "vm1@"} {
		if _, err := nbd.Dial(t.Context(), l.uri+name); err == nil {
			t.Errorf("there is an export %q", name)
		}
	}
}

// A volume has many snapshots: each export names a few contexts, of those that were taken
// before it last, and has all of them.
func TestManyContexts(t *testing.T) {
	t.Parallel()
	const count = 100
	l := start(t)
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "vm1", Size: 1 << 20})
	must(t, err)
	for i := range count {
		must(t, l.Cluster().Snapshot(t.Context(), "vm1", fmt.Sprintf("s%03d", i)))
	}
	fill(t, l.dial(t, "vm1"), 1)
	list, err := nbd.List(t.Context(), l.uri)
	must(t, err)
	if len(list) != count+1 {
		t.Fatalf("%d exports", len(list))
	}
	changes := func(i int) string { return fmt.Sprintf("%ss%03d", cluster.ChangedSince, i) }
	for i, want := range map[int]int{0: 1 + 64, 1: 1 + 1, 11: 1 + 11, 100: 1 + 64} { // 0 is the volume
		got := list[i].Contexts
		last := (i + count - 1) % count // its own, or of the volume the last one
		if len(got) != want || got[1] != changes(last) {
			t.Errorf("%s names %d contexts, first %q, expected %d and %q", list[i].Name, len(got), got[1], want, changes(last))
		}
	}
	d := nbd.Dialer{Contexts: []string{changes(3), changes(99), cluster.ChangedSince + "never"}}
	c, err := d.Dial(t.Context(), l.uri+"vm1")
	must(t, err)
	defer c.Close()
	if got := c.Info().Contexts; !slices.Contains(got, changes(3)) || !slices.Contains(got, changes(99)) || len(got) != 2 {
		t.Errorf("the contexts are %q", got)
	}
	for e, err := range c.Extents(t.Context(), changes(3), 0, 4096) {
		must(t, err)
		if e.Status != cluster.Changed {
			t.Errorf("the status is %d", e.Status)
		}
	}
}
