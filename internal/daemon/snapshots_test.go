package daemon

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/snapshot/stream"
)

const withSnapshots = `
listen("unix://$DIR/s")
control("$DIR/c")
export("vm", snapshots(mem("1M"), mem("32M")))
export("plain", mem("1M"))
`

// TestSnapshotsByControl does with the control socket all that can be done.
func TestSnapshotsByControl(t *testing.T) {
	t.Parallel()
	b := start(t, withSnapshots)
	vm := b.dial("vm")
	control := NewClient(b.path("c"))
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change := func(verb string, names ...string) {
		t.Helper()
		must(control.ChangeSnapshots(ctx, verb, SnapshotRequest{Export: "vm", Names: names}))
	}
	must(vm.WriteAt(ctx, []byte("old"), 4096, 0))
	change("create", "monday")
	must(vm.WriteAt(ctx, []byte("new"), 4096, 0))
	change("create", "tuesday")
	p := make([]byte, 3)
	if must(b.dial("vm@monday").ReadAt(ctx, p, 4096, 0)); string(p) != "old" {
		t.Errorf("the snapshot has %q", p)
	}
	var changes []block.Extent
	for e, err := range control.Diff(ctx, "vm", "monday", "tuesday") {
		must(err)
		changes = append(changes, e)
	}
	if len(changes) != 1 || changes[0].Off != 4096 || changes[0].Len != 4096 {
		t.Errorf("the difference is %+v", changes)
	}
	body, err := control.Stream(ctx, "vm", "monday", "tuesday")
	must(err)
	copied := make([]byte, 1<<20)
	copy(copied[4096:], "old")
	_, err = stream.Apply(ctx, body, block.FromBytes(copied))
	must(err)
	body.Close()
	if string(copied[4096:4099]) != "new" {
		t.Errorf("the copy has %q", copied[4096:4099])
	}
	l, err := control.Snapshots(ctx, "vm")
	must(err)
	if len(l.Snapshots) != 2 || l.Snapshots[0].Name != "monday" || !l.Snapshots[0].Open || l.Snapshots[0].Created == nil || l.Snapshots[0].Exclusive == nil {
		t.Errorf("the list is %+v", l)
	}
	change("rollback", "monday")
	if must(vm.ReadAt(ctx, p, 4096, 0)); string(p) != "old" {
		t.Errorf("after the rollback the origin has %q", p)
	}
	k, err := control.CheckSnapshots(ctx, "vm")
	must(err)
	if len(k.Problems) > 0 {
		t.Errorf("the store has problems: %q", k.Problems)
	}
	for l.Status.RollingBack != "" || l.Status.Task != "idle" {
		l, err = control.Snapshots(ctx, "vm")
		must(err)
	}
	change("suspend")
	if l, err = control.Snapshots(ctx, "vm"); err != nil || !l.Status.Suspended || l.Snapshots[0].Exclusive != nil {
		t.Errorf("suspended: %+v, %v", l, err)
	}
	change("resume")
	must(control.ChangeSnapshots(ctx, "rename", SnapshotRequest{Export: "vm", Names: []string{"tuesday"}, To: "last"}))
	change("delete", "last")
	st, err := control.Status(ctx)
	must(err)
	if s := st.Exports[0].Snapshots; len(s) != 1 || s[0].Count != 1 || !strings.HasPrefix(s[0].Device, "snapshots(") {
		t.Errorf("the status is %+v", s)
	}
	if x := st.Exports[2]; x.Name != "vm@monday" || x.Device != `snapshot "monday" of export "vm"` || x.Connections != 1 {
		t.Errorf("the status of the view is %+v", x)
	}
	if m := metricsOf(t, b); !strings.Contains(m, `strata_snapshots{export="vm"} 1`) || !strings.Contains(m, `strata_snapshot_store_bytes{export="vm",state="free"}`) {
		t.Errorf("the metrics are %s", m)
	}
}

// metricsOf returns what the control socket says to Prometheus.
func metricsOf(t *testing.T, b *bench) string {
	t.Helper()
	resp, err := onSocket(b).Get("http://strata/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func onSocket(b *bench) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.path("c"))
	}}}
}

// TestSnapshotErrors has the text of every error that people can get.
func TestSnapshotErrors(t *testing.T) {
	t.Parallel()
	b := start(t, withSnapshots)
	control := NewClient(b.path("c"))
	ctx := t.Context()
	ask := func(verb string, q SnapshotRequest) error { return control.ChangeSnapshots(ctx, verb, q) }
	vm := func(names ...string) SnapshotRequest { return SnapshotRequest{Export: "vm", Names: names} }
	if err := ask("create", vm("monday")); err != nil {
		t.Fatal(err)
	}
	used := b.dial("vm@monday")
	diff := func(a, b string) (err error) {
		for _, err = range control.Diff(ctx, "vm", a, b) {
		}
		return err
	}
	_, streamErr := control.Stream(ctx, "vm", "monday", "")
	_, unknownErr := control.Stream(ctx, "vm", "monday", "x")
	_, plainErr := control.Snapshots(ctx, "plain")
	for i, tt := range []struct {
		err  error
		want string
	}{
		{ask("create", vm("monday")), `snapshot "monday": the name is in use`},
		{ask("create", vm()), "the request names 0 snapshots, must name one"},
		{ask("create", vm("a@b")), `the name "a@b" must have neither @ nor /: invalid argument`},
		{ask("create", SnapshotRequest{Export: "vm", Names: []string{"a"}, Of: "monday"}), "this kind of store takes no snapshots of snapshots: operation not supported"},
		{ask("create", SnapshotRequest{Export: "nothing"}), `there is no export "nothing"`},
		{plainErr, `export "plain": none of its devices has snapshots: they are made by snapshots(origin, store)`},
		{ask("delete", vm()), "the names of snapshots are missing"},
		{ask("delete", vm("monday", "monday")), `snapshot "monday" is named twice`},
		{ask("delete", vm("x")), `snapshot "x": no such snapshot`},
		{ask("delete", vm("monday")), `snapshot "monday" is in use: busy`},
		{ask("rollback", vm("x")), `snapshot "x": no such snapshot`},
		{ask("rename", vm("x")), `the name of a snapshot is empty: invalid argument`},
		{diff("monday", "x"), `snapshot "x": no such snapshot`},
		{streamErr, "a stream is the difference of two snapshots: the origin changes meanwhile, take a snapshot of it"},
		{unknownErr, `snapshot "x": no such snapshot`},
		{ask("nothing", vm()), "control socket " + b.path("c") + ": 404 Not Found: 404 page not found"},
	} {
		if tt.err == nil || tt.err.Error() != tt.want {
			t.Errorf("case %d: %v, want %s", i, tt.err, tt.want)
		}
	}
	used.Close()
	if _, err := new(nbd.Dialer).Dial(ctx, "nbd+unix:///vm@x?socket="+b.path("s")); err == nil || !strings.Contains(err.Error(), "the server has no export") {
		t.Errorf("connecting to no snapshot: %v", err)
	}
	resp, err := onSocket(b).Post("http://strata/v1/snapshots/create", "application/json", bytes.NewReader([]byte(`{"exprt": "vm"}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); !strings.Contains(string(text), `the request is not understood: json: unknown field \"exprt\"`) {
		t.Errorf("a misspelt request: %s", text)
	}
}

// TestStopEndsStreams: a client that asked for a difference and does not read
// it does not keep the server from ending.
func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	b := start(t, `
listen("unix://$DIR/s")
control("$DIR/c")
export("vm", snapshots(mem("16M"), mem("64M")))
`)
	vm, control := b.dial("vm"), NewClient(b.path("c"))
	for i, name := range []string{"a", "b"} {
		if err := vm.WriteAt(t.Context(), bytes.Repeat([]byte{byte(i + 1)}, 16<<20), 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := control.ChangeSnapshots(t.Context(), "create", SnapshotRequest{Export: "vm", Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	body, err := control.Stream(t.Context(), "vm", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := control.ChangeSnapshots(t.Context(), "delete", SnapshotRequest{Export: "vm", Names: []string{"a"}}); err == nil || err.Error() != `snapshot "a" is in use: busy` {
		t.Errorf("deleting what is being compared: %v", err)
	}
	vm.Close()
	b.Stop()
	if err := b.Wait(); err != nil {
		t.Error(err)
	}
	if err := stream.Verify(body); err == nil {
		t.Error("the stream is whole")
	}
}

// TestStopResumes: a server that ends answers the requests that wait for a
// resume.
func TestStopResumes(t *testing.T) {
	t.Parallel()
	b := start(t, withSnapshots)
	vm, control := b.dial("vm"), NewClient(b.path("c"))
	if err := control.ChangeSnapshots(t.Context(), "suspend", SnapshotRequest{Export: "vm"}); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() { written <- vm.WriteAt(context.Background(), []byte("x"), 0, 0) }()
	for {
		st, err := control.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Connections[0].InFlight == 1 {
			break
		}
	}
	b.Stop()
	if err := <-written; err != nil {
		t.Errorf("the write that waited: %v", err)
	}
	if err := b.Wait(); err != nil {
		t.Error(err)
	}
}
