package node

import (
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// The node tells who it is, what its clients do, and how the cluster is.
func TestStatus(t *testing.T) {
	t.Parallel()
	l := start(t)
	ctx := t.Context()
	_, err := l.CreateVolume(ctx, VolumeSpec{Name: "vm1", Size: 1 << 20})
	must(t, err)
	fill(t, l.dial(t, "vm1"), 1)
	st, err := l.Client.Status(ctx)
	must(t, err)
	if st.TLS != "off" || len(st.Listeners) != 1 || len(st.Connections) != 1 || len(st.Exports) != 1 ||
		st.Exports[0].Name != "vm1" || st.Exports[0].Connections != 1 || st.Exports[0].BytesWritten != 4096 {
		t.Errorf("the node is %+v", st)
	}
	c, err := l.Client.ClusterStatus(ctx)
	must(t, err)
	if c.State != "healthy" || len(c.Nodes) != 1 || c.Nodes[0].State != "up" || c.Nodes[0].Volumes != 1 || len(c.Disks) != 1 ||
		c.Disks[0].Used == nil || c.Disks[0].Groups != c.Groups || c.Groups == 0 || c.Silent != "" {
		t.Errorf("the cluster is %+v", c)
	}
	if len(c.Attached) != 1 || c.Attached[0].Volume != "vm1" || c.Attached[0].Node.ID != st.Node.ID {
		t.Errorf("served are %+v", c.Attached)
	}
	jobs, err := l.Client.Jobs(ctx)
	must(t, err)
	if len(jobs.Scrubs) != 2 || jobs.Problem != "" {
		t.Errorf("the jobs are %+v", jobs)
	}
}

// A node that should be there, and does not answer, is not said to be up.
func TestSilentNodes(t *testing.T) {
	t.Parallel()
	st := ClusterStatus{Nodes: []NodeStatus{
		{NodeName: NodeName{ID: "a"}, State: "up"}, {NodeName: NodeName{ID: "b"}, State: "up"},
		{NodeName: NodeName{ID: "c"}, State: "draining"}, {NodeName: NodeName{ID: "d"}, State: "away"},
	}}
	st.hear([]string{"b", "e"})
	var got []string
	for _, n := range st.Nodes {
		got = append(got, n.State)
	}
	if want := []string{"silent", "up", "silent", "away"}; !slices.Equal(got, want) {
		t.Errorf("the nodes are %v, expected %v", got, want)
	}
}

// The metrics have what an alarm needs.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := start(t)
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "vm1", Size: 1 << 20})
	must(t, err)
	fill(t, l.dial(t, "vm1"), 1)
	body, err := l.Open(t.Context(), http.MethodGet, "/metrics", nil)
	must(t, err)
	defer body.Close()
	text, err := io.ReadAll(body)
	must(t, err)
	for _, want := range []string{
		`strata_cluster_groups{state="healthy"} 1`, `strata_cluster_groups{state="unavailable"} 0`,
		`strata_cluster_nodes{state="up"} 1`, `strata_cluster_volumes 1`, `strata_cluster_copies_missing 0`,
		`strata_volume_size_bytes{volume="vm1"} 1.048576e+06`, `strata_volume_attached{volume="vm1"} 1`,
		`strata_written_bytes_total{export="vm1"} 4096`, `strata_connections{export="vm1"} 1`,
		`strata_disk_rot_total{disk=`, `strata_jobs{kind="join",state="running"} 0`, `strata_wire_sessions{direction="in"} 0`,
		`go_goroutines`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// What is not understood is refused, and a stop by the control socket ends everything.
func TestControl(t *testing.T) {
	t.Parallel()
	l := start(t)
	ctx := t.Context()
	for path, says := range map[string]string{
		"/v1/nothing":         "404",
		"/v1/volumes/create":  "not understood",
		"/v1/cluster/foresee": "not understood",
	} {
		if err := l.Post(ctx, path, "text", nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, expected %q", path, err, says)
		}
	}
	if err := l.Post(ctx, "/v1/cluster/token", TokenRequest{Seconds: math.MaxInt64}, new(Token)); err == nil || !strings.Contains(err.Error(), "seconds, expected") {
		t.Errorf("a token for ever: %v", err)
	}
	if _, err := l.Client.Token(ctx, time.Hour, false); err == nil || !strings.Contains(err.Error(), "--cluster-listen") {
		t.Errorf("a token for a node that nobody can reach: %v", err)
	}
	if _, err := l.Foresee(ctx, Order{Do: "drain", Node: "nix"}); err == nil || !strings.Contains(err.Error(), `no node "nix"`) {
		t.Errorf("an order about nobody: %v", err)
	}
	if _, err := l.Foresee(ctx, Order{Do: "paint", Node: "nix"}); err == nil || !strings.Contains(err.Error(), `no order "paint"`) {
		t.Errorf("an order that there is not: %v", err)
	}
	must(t, l.Client.Stop(ctx))
	must(t, l.Wait())
	if _, err := l.Client.Volumes(ctx); err == nil || !strings.Contains(err.Error(), "no node answers") {
		t.Errorf("a node that has stopped: %v", err)
	}
}
