package node

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
	"github.com/strata-storage/strata/internal/ledger"
	"github.com/strata-storage/strata/nbd"
)

// A Status describes a running node.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Cluster string    `json:"cluster"`
	Node    NodeName  `json:"node"`
	// Data is its data directory.
	Data string `json:"data"`
	// Join is where nodes join, empty if they cannot at this one.
	Join      string   `json:"join,omitempty"`
	Listeners []string `json:"listeners"`
	// TLS is off, optional or required.
	TLS string `json:"tls"`
	// Exports that clients have come for since the node started.
	Exports []ExportStatus `json:"exports"`
	// Connections that there are, oldest first.
	Connections []nbd.ConnStatus `json:"connections"`
}

// An ExportStatus describes an export, in the words of the server of a configuration.
// The counters are those of all its connections since the node started.
type ExportStatus struct {
	Name        string `json:"name"`
	Device      string `json:"device"`
	Size        int64  `json:"size"`
	ReadOnly    bool   `json:"read_only"`
	Connections int    `json:"connections"`
	ledger.Counters
}

// Status describes the node at this moment.
func (n *Node) Status() *Status {
	st := &Status{
		Version: n.o.Cluster.Version, PID: os.Getpid(), Started: n.started, Cluster: n.cluster.Cluster(),
		Node: n.describe().node(n.cluster.ID()), Data: n.o.Cluster.Dir, Join: n.o.Join, Listeners: []string{},
		TLS: n.tlsMode(),
	}
	for _, a := range n.addresses {
		st.Listeners = append(st.Listeners, a.String())
	}
	open, sums := n.ledger.Read([]*nbd.Server{n.server})
	st.Connections = append([]nbd.ConnStatus{}, open...)
	st.Exports = []ExportStatus{}
	count := map[string]int{}
	for _, c := range open {
		count[c.Export]++
	}
	v := n.cluster.View()
	for name, counters := range sums {
		if x, ok := exportOf(v, name); ok {
			x.Connections, x.Counters = count[name], counters
			st.Exports = append(st.Exports, x)
		}
	}
	slices.SortFunc(st.Exports, func(a, b ExportStatus) int { return strings.Compare(a.Name, b.Name) })
	return st
}

// exportOf describes a volume or snapshot.
func exportOf(v *record.View, name string) (ExportStatus, bool) {
	volume, snapshot, isSnapshot := strings.Cut(name, "@")
	h, ok := v.Head(volume)
	if !ok || !isSnapshot {
		return ExportStatus{Name: name, Device: volumeText(h), Size: h.Name.Record.Size}, ok
	}
	s, ok := v.Snapshot(h.Line(), snapshot)
	return ExportStatus{Name: name, Device: snapshotText(volume, s), Size: s.Size, ReadOnly: true}, ok
}

func (n *Node) tlsMode() string {
	switch n.o.TLS {
	case nbd.TLSRequired:
		return "required"
	case nbd.TLSOptional:
		return "optional"
	}
	return "off"
}

// A ClusterStatus describes a cluster, as one of its nodes sees it.
type ClusterStatus struct {
	Cluster string    `json:"cluster"`
	Time    time.Time `json:"time"`
	// Asked is the node that tells.
	Asked NodeName `json:"asked"`
	// State is that of the placement group that is worst off: healthy, moving,
	// degraded, at risk, waiting or unavailable.
	State string       `json:"state"`
	Nodes []NodeStatus `json:"nodes"`
	Disks []DiskStatus `json:"disks"`
	// Groups is the number of placement groups that have objects, and States how many
	// of them are in each state.
	Groups int            `json:"groups"`
	States map[string]int `json:"states"`
	// Unwell are some of those that are not healthy, the worst first.
	Unwell []GroupStatus `json:"unwell,omitempty"`
	// Volumes is how many there are, and Attached those that a node serves now.
	Volumes  int        `json:"volumes"`
	Attached []Attached `json:"attached"`
	// Recovery is how far the copying of groups has come, null if there is none.
	Recovery *Recovery `json:"recovery"`
	// Work is what is done in the background. Absent are kinds of which nothing is.
	Work []WorkStatus `json:"work"`
	// Silent says which nodes did not tell what they do, and why.
	Silent string `json:"silent,omitempty"`
	// Risks is what an operator should know, in sentences, the worst first.
	Risks []string `json:"risks"`
}

// States of nodes that are not there, or may not be.
const (
	away   = "away"
	silent = "silent"
)

// A NodeStatus describes a node of a cluster.
type NodeStatus struct {
	NodeName
	// State is up, draining, silent if the node did not answer but its lease has not ended,
	// or away.
	State string `json:"state"`
	// Zone is empty if the node is one of its own.
	Zone    string `json:"zone,omitempty"`
	Version string `json:"version,omitempty"`
	Address string `json:"address,omitempty"`
	Disks   int    `json:"disks"`
	// Groups counts copies of placement groups on its disks, Volumes what it serves.
	Groups  int `json:"groups"`
	Volumes int `json:"volumes"`
}

// A DiskStatus describes a disk of a cluster. Sizes are in bytes.
type DiskStatus struct {
	ID     string   `json:"id"`
	Node   NodeName `json:"node"`
	Size   int64    `json:"size"`
	Weight int64    `json:"weight"`
	// Used is what the node last said, absent if it never did.
	Used *int64 `json:"used,omitempty"`
	Full bool   `json:"full,omitempty"`
	// Failed says why nothing is read from it any more.
	Failed string `json:"failed,omitempty"`
	// Groups is how many it has a copy of, and Joining how many are being copied to it.
	Groups  int `json:"groups"`
	Joining int `json:"joining"`
}

// A GroupStatus describes a placement group.
type GroupStatus struct {
	Number int    `json:"number"`
	State  string `json:"state"`
	Text   string `json:"text"`
}

// Attached says which node serves a volume.
type Attached struct {
	Volume string   `json:"volume"`
	Node   NodeName `json:"node"`
}

// maxUnwell bounds the groups that are told of one by one.
const maxUnwell = 100

// ClusterStatus describes the cluster at this moment, with what nodes do in the background.
func (n *Node) ClusterStatus(ctx context.Context) (*ClusterStatus, error) {
	// A node that was started again may have copies to get of which this one has not heard
	// yet. If nobody can be asked, it is as far as this node knows.
	_ = n.cluster.Latest(ctx)
	st, err := n.clusterStatus()
	if err != nil {
		return nil, err
	}
	jobs := n.Jobs(ctx)
	st.Work, st.Silent = jobs.sum(), jobs.Problem
	st.hear(jobs.answered)
	return st, nil
}

// hear notes which nodes have not answered of those that should be there.
func (st *ClusterStatus) hear(answered []string) {
	for i := range st.Nodes {
		if x := &st.Nodes[i]; x.State != away && !slices.Contains(answered, x.ID) {
			x.State = silent
		}
	}
}

// clusterStatus is what this node knows by itself.
func (n *Node) clusterStatus() (*ClusterStatus, error) {
	report, err := n.cluster.Status()
	if err != nil {
		return nil, err
	}
	d := n.describe()
	st := &ClusterStatus{
		Cluster: n.cluster.Cluster(), Time: time.Now(), Asked: d.node(n.cluster.ID()), State: steward.Healthy.String(),
		Groups: report.Groups, States: map[string]int{}, Volumes: d.Names.Len(), Attached: []Attached{}, Work: []WorkStatus{}, Risks: []string{},
	}
	for state, count := range report.States {
		if count > 0 {
			st.State = steward.State(state).String() // the later, the worse
			st.States[st.State] = count
		}
	}
	words := d.words()
	for _, g := range report.Unwell[:min(len(report.Unwell), maxUnwell)] {
		st.Unwell = append(st.Unwell, GroupStatus{g.Number, g.State.String(), words.Replace(g.Text)})
	}
	for _, text := range report.Risks {
		st.Risks = append(st.Risks, words.Replace(text))
	}
	for name := range d.Names.All() {
		h, ok := d.Head(name)
		if a, generation := d.Attachment(h.Line()); ok && generation != 0 {
			st.Attached = append(st.Attached, Attached{name, d.node(a.Node)})
		}
	}
	d.hardware(st, n.cluster.DiskStats())
	n.recovery.see(st.Time, toMake(report)) // which time alone changes, too
	st.Recovery = n.recovery.now(st.Time)
	return st, nil
}

// words replaces the IDs in sentences by what people call nodes and disks.
func (d *describer) words() *strings.Replacer {
	var pairs []string
	for id, n := range d.nodes {
		pairs = append(pairs, id, n.Label)
	}
	for id := range d.Disks.All() {
		pairs = append(pairs, id, short(id))
	}
	return strings.NewReplacer(pairs...)
}

// hardware describes nodes and disks. own are the figures of those disks that are known.
func (d *describer) hardware(st *ClusterStatus, own map[string]disk.Stats) {
	groups, joining := map[string]int{}, map[string]int{}
	for _, g := range d.Groups.All() {
		for _, m := range g.Record.Members {
			groups[m.Disk]++
		}
		for _, m := range g.Record.Joining {
			joining[m.Disk]++
		}
	}
	nodes := map[string]*NodeStatus{}
	for id, e := range d.Nodes.All() {
		s := &NodeStatus{NodeName: d.node(id), State: "up", Zone: e.Record.Zone}
		run, _ := d.Runs.Get(id)
		s.Version, s.Address = run.Record.Version, run.Record.Peers
		switch {
		case run.Revision == 0:
			s.State = away
		case e.Record.Draining:
			s.State = "draining"
		}
		if s.Zone == id {
			s.Zone = ""
		}
		nodes[id] = s
	}
	for id, e := range d.Disks.All() {
		s := d.disk(id, e.Record, own)
		s.Groups, s.Joining = groups[id], joining[id]
		st.Disks = append(st.Disks, s)
		if n := nodes[e.Record.Node]; n != nil {
			n.Disks++
			n.Groups += s.Groups
		}
	}
	for _, a := range st.Attached {
		if n := nodes[a.Node.ID]; n != nil {
			n.Volumes++
		}
	}
	for _, s := range nodes {
		st.Nodes = append(st.Nodes, *s)
	}
	slices.SortFunc(st.Nodes, func(a, b NodeStatus) int { return strings.Compare(a.Label, b.Label) })
	slices.SortStableFunc(st.Disks, func(a, b DiskStatus) int { return strings.Compare(a.Node.Label, b.Node.Label) })
}

func (d *describer) disk(id string, r record.Disk, own map[string]disk.Stats) DiskStatus {
	s := DiskStatus{ID: id, Node: d.node(r.Node), Size: r.Size, Weight: r.Weight, Failed: r.Failed}
	if stats, ok := own[id]; ok {
		s.Used, s.Full = &stats.Used, stats.Full || stats.MetaFull
	} else if h, ok := d.Health.Get(id); ok {
		s.Used, s.Full = &h.Record.Used, h.Record.Full
	}
	return s
}
