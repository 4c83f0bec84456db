package config

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/snapshot"
)

// serveText serves a configuration.
func serveText(t testing.TB, set *Set, text string) {
	t.Helper()
	c, err := (&Loader{}).LoadBytes(t.Context(), "/conf/s.star", []byte(text))
	if err == nil {
		_, err = set.Apply(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// setOf returns the snapshots of an export.
func setOf(t testing.TB, set *Set, export string) *snapshot.Set {
	t.Helper()
	devices, release, ok := set.Hold(export)
	if !ok {
		t.Fatalf("there is no export %q", export)
	}
	defer release()
	for _, dev := range devices {
		if s := snapshot.SetOf(dev); s != nil {
			return s
		}
	}
	t.Fatalf("export %q has no snapshots", export)
	return nil
}

func localPeer() *nbd.Peer { return &nbd.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} }

func ask(t testing.TB, set *Set, name string, probe bool) (*nbd.Export, error) {
	t.Helper()
	return set.Resolve(t.Context(), &nbd.ExportRequest{Name: name, Peer: localPeer(), Probe: probe})
}

func listed(t testing.TB, set *Set) string {
	t.Helper()
	list, err := set.List(t.Context(), localPeer())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range list {
		names = append(names, x.Name)
	}
	return strings.Join(names, " ")
}

const oneOrigin = `s = snapshots(mem("1M"), mem("32M"))
export("vm", s)
`

// TestSnapshotsAreExported: snapshots come and go as exports without a reload.
func TestSnapshotsAreExported(t *testing.T) {
	t.Parallel()
	set := &Set{}
	defer set.Close(context.Background())
	serveText(t, set, oneOrigin)
	snaps := setOf(t, set, "vm")
	if got := listed(t, set); got != "vm" {
		t.Errorf("without snapshots the list is %s", got)
	}
	if err := snaps.Create(t.Context(), "monday", snapshot.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, set); got != "vm vm@monday" {
		t.Errorf("with one the list is %s", got)
	}
	for _, name := range []string{"vm@monday", "@monday"} {
		x, err := ask(t, set, name, false)
		if err != nil {
			t.Fatal(err)
		}
		if x.Name != "vm@monday" || !x.Device.Info().ReadOnly || x.Device.Info().Size != 1<<20 {
			t.Errorf("%s is %+v, %+v", name, x, x.Device.Info())
		}
		if err := snaps.Delete(t.Context(), "monday"); err == nil || err.Error() != `snapshot "monday" is in use: busy` {
			t.Errorf("deleting what a client uses: %v", err)
		}
		x.Release()
	}
	if x, err := ask(t, set, "vm@monday", true); err != nil {
		t.Error(err)
	} else {
		x.Release()
	}
	if err := snaps.Delete(t.Context(), "monday"); err != nil {
		t.Errorf("deleting what nobody uses any more: %v", err)
	}
	for _, name := range []string{"vm@monday", "vm@", "vm@a@b", "other@monday", "@"} {
		for _, probe := range []bool{false, true} {
			if _, err := ask(t, set, name, probe); !errors.Is(err, nbd.ErrNotFound) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

// TestViewIsOneDevice: all who use a snapshot use one device, also after it
// got another name, and the name can then be that of another one.
func TestViewIsOneDevice(t *testing.T) {
	t.Parallel()
	set := &Set{}
	defer set.Close(context.Background())
	serveText(t, set, oneOrigin)
	snaps := setOf(t, set, "vm")
	open := func(name string) *nbd.Export {
		x, err := ask(t, set, name, false)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	snaps.Create(t.Context(), "a", snapshot.CreateOptions{})
	one, two := open("vm@a"), open("vm@a")
	snaps.Rename(t.Context(), "a", "b")
	snaps.Create(t.Context(), "a", snapshot.CreateOptions{})
	three, four := open("vm@b"), open("vm@a")
	if one.Device != two.Device || one.Device != three.Device || one.Device == four.Device {
		t.Error("the devices are not those of the snapshots")
	}
	for _, x := range []*nbd.Export{one, two, three, four} {
		x.Release()
	}
	if err := snaps.Delete(t.Context(), "a", "b"); err != nil {
		t.Error(err)
	}
}

// TestViewsThroughLayers: a view of an export is its layers over the view of
// the device under them; where a layer cannot be that it hides the views.
func TestViewsThroughLayers(t *testing.T) {
	t.Parallel()
	set := &Set{}
	defer set.Close(context.Background())
	dir := t.TempDir()
	serveText(t, set, strings.ReplaceAll(`
def deny(r): return refuse("EPERM")
s = snapshots(mem("1M"), mem("32M"), writable=True)
export("plain", s)
export("readonly", readonly(s))
export("slice", throttle(slice(s, offset=4096, length=8192), bytes="1G"))
export("hook", hook(s, write=deny))
export("rules", s, read_only=True)
export("concat", concat(s, s))
export("cow", cow(s, "DIR/cow"))
export("plain@taken", mem("4K"))
`, "DIR", dir))
	snaps := setOf(t, set, "plain")
	for _, name := range []string{"x", "taken"} {
		if err := snaps.Create(t.Context(), name, snapshot.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	want := "plain plain@x readonly readonly@x readonly@taken slice slice@x slice@taken hook hook@x hook@taken rules rules@x rules@taken concat cow plain@taken"
	if got := listed(t, set); got != want {
		t.Errorf("listed are\n%s, want\n%s", got, want)
	}
	for _, tt := range []struct {
		name     string
		size     int64
		readOnly bool
		write    error
	}{
		{"plain@x", 1 << 20, false, nil},
		{"readonly@x", 1 << 20, true, block.ErrReadOnly},
		{"slice@x", 8192, false, nil},
		{"hook@x", 1 << 20, false, block.ErrPermission},
		{"rules@x", 1 << 20, true, nil}, // the protocol refuses
		{"plain@taken", 4096, false, nil},
	} {
		x, err := ask(t, set, tt.name, false)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		i := x.Device.Info()
		if i.Size != tt.size || (i.ReadOnly || x.ReadOnly) != tt.readOnly {
			t.Errorf("%s: %+v", tt.name, i)
		}
		if err := x.Device.WriteAt(t.Context(), make([]byte, 512), 0, 0); !errors.Is(err, tt.write) {
			t.Errorf("writing to %s: %v", tt.name, err)
		}
		x.Release()
	}
	for _, name := range []string{"concat@x", "cow@x"} {
		if _, err := ask(t, set, name, false); !errors.Is(err, nbd.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestViewsAndReload: a reload that leaves the export as it is leaves the
// snapshots and their connections; one that removes it waits for them.
func TestViewsAndReload(t *testing.T) {
	t.Parallel()
	set := &Set{}
	serveText(t, set, oneOrigin)
	snaps := setOf(t, set, "vm")
	if err := snaps.Create(t.Context(), "monday", snapshot.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	x, err := ask(t, set, "vm@monday", false)
	if err != nil {
		t.Fatal(err)
	}
	serveText(t, set, oneOrigin+`export("new", mem("4K"))`)
	if got := setOf(t, set, "vm"); got != snaps {
		t.Error("the origin was opened again")
	}
	if got := listed(t, set); got != "vm vm@monday new" {
		t.Errorf("after the reload the list is %s", got)
	}
	serveText(t, set, `export("new", mem("4K"))`)
	if _, err := ask(t, set, "vm@monday", false); !errors.Is(err, nbd.ErrNotFound) {
		t.Errorf("a snapshot of a removed export: %v", err)
	}
	if err := x.Device.ReadAt(t.Context(), make([]byte, 512), 0, 0); err != nil {
		t.Errorf("the connection that there was: %v", err)
	}
	x.Release()
	if err := x.Device.ReadAt(t.Context(), make([]byte, 512), 0, 0); !errors.Is(err, block.ErrClosed) {
		t.Errorf("after its end: %v", err)
	}
	if err := set.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := snaps.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("the snapshots were left open: %v", err)
	}
}

// TestConnectionsToViewsCount: max_connections is about all of an export, and
// open_creates takes a snapshot for who connects, not for who asks.
func TestConnectionsToViewsCount(t *testing.T) {
	t.Parallel()
	set := &Set{}
	defer set.Close(context.Background())
	serveText(t, set, `export("vm", snapshots(mem("1M"), mem("32M"), open_creates=True), max_connections=1)`)
	if _, err := ask(t, set, "vm@new", true); !errors.Is(err, nbd.ErrNotFound) {
		t.Errorf("a probe: %v", err)
	}
	x, err := ask(t, set, "vm@new", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, set, "vm", false); err == nil || err.Error() != `export "vm" has 1 connections, and no more are allowed at one time` {
		t.Errorf("a second connection: %v", err)
	}
	x.Release()
	names := slices.Collect(func(yield func(string) bool) {
		for _, s := range setOf(t, set, "vm").List() {
			yield(s.Name)
		}
	})
	if !slices.Equal(names, []string{"new"}) {
		t.Errorf("the snapshots are %q", names)
	}
}
