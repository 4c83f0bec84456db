package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/steward"
	"github.com/strata-storage/strata/internal/ledger"
	"github.com/strata-storage/strata/nbd"
)

// metricsHandler serves the metrics of n in the form of Prometheus.
func metricsHandler(n *Node) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{n}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// A collector reads what there is whenever somebody asks for it, so that metrics cost
// nothing in between. What is agreed is the same at every node; counters and the use of
// disks are those of the node itself.
type collector struct{ node *Node }

var (
	byVolume = []string{"volume"}
	byDisk   = []string{"disk"}

	infoDesc     = prometheus.NewDesc("strata_node_info", "The node; always 1.", []string{"version", "cluster", "node", "name"}, nil)
	nodesDesc    = prometheus.NewDesc("strata_cluster_nodes", "Nodes of the cluster.", []string{"state"}, nil)
	groupsDesc   = prometheus.NewDesc("strata_cluster_groups", "Placement groups of the cluster that have objects.", []string{"state"}, nil)
	copiesDesc   = prometheus.NewDesc("strata_cluster_copies_missing", "Copies of placement groups that are being made or have to be.", nil, nil)
	volumesDesc  = prometheus.NewDesc("strata_cluster_volumes", "Volumes of the cluster.", nil, nil)
	badDesc      = prometheus.NewDesc("strata_cluster_bad_records", "Records that this node does not understand.", nil, nil)
	sizeDesc     = prometheus.NewDesc("strata_volume_size_bytes", "Size of the volume.", byVolume, nil)
	snapshotDesc = prometheus.NewDesc("strata_volume_snapshots", "Snapshots of the volume.", byVolume, nil)
	attachedDesc = prometheus.NewDesc("strata_volume_attached", "Whether this node serves the volume for the whole cluster.", byVolume, nil)

	sessionsDesc = prometheus.NewDesc("strata_wire_sessions", "Sessions with other nodes.", []string{"direction"}, nil)

	diskSizeDesc   = prometheus.NewDesc("strata_disk_size_bytes", "Room of the disk for blocks.", byDisk, nil)
	diskUsedDesc   = prometheus.NewDesc("strata_disk_used_bytes", "What is taken of it.", byDisk, nil)
	diskFreeDesc   = prometheus.NewDesc("strata_disk_free_bytes", "What can be written before writes fail.", byDisk, nil)
	diskFullDesc   = prometheus.NewDesc("strata_disk_full", "Whether writes were refused for want of room.", byDisk, nil)
	diskDirtyDesc  = prometheus.NewDesc("strata_disk_unflushed_bytes", "What is not durable yet, in pieces of 64 KiB.", byDisk, nil)
	diskGroupsDesc = prometheus.NewDesc("strata_disk_groups", "Placement groups on the disk, or being copied to it.", []string{"disk", "role"}, nil)
	flushesDesc    = prometheus.NewDesc("strata_disk_flushes_total", "Barriers on the disk.", byDisk, nil)
	rotDesc        = prometheus.NewDesc("strata_disk_rot_total", "Times that a block did not have its checksum.", byDisk, nil)
	jobsDesc       = prometheus.NewDesc("strata_jobs", "Background jobs of this node.", []string{"kind", "state"}, nil)
	movedDesc      = prometheus.NewDesc("strata_jobs_moved_bytes", "What the jobs that are under way have moved or read.", []string{"kind"}, nil)
	scrubbedDesc   = prometheus.NewDesc("strata_disk_scrubbed_timestamp_seconds", "When the last scrub of the disk has ended, 0 if there was none.", []string{"disk", "kind"}, nil)
	scrubBadDesc   = prometheus.NewDesc("strata_disk_scrub_bad", "What the last scrub of the disk found that was not as it should be.", []string{"disk", "kind"}, nil)
	repairedDesc   = prometheus.NewDesc("strata_disk_repaired_total", "Entries that were replaced by those of another copy.", byDisk, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		infoDesc, sessionsDesc, nodesDesc, groupsDesc, copiesDesc, volumesDesc, badDesc, sizeDesc, snapshotDesc, attachedDesc,
		diskSizeDesc, diskUsedDesc, diskFreeDesc, diskFullDesc, diskDirtyDesc, diskGroupsDesc, flushesDesc, rotDesc, repairedDesc,
		jobsDesc, movedDesc, scrubbedDesc, scrubBadDesc,
	} {
		ch <- d
	}
	ledger.Describe(ch)
}

// send sends metrics.
type send chan<- prometheus.Metric

func (s send) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s send) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s send) yes(d *prometheus.Desc, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	s.gauge(d, v, labels...)
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	n, s := c.node, send(ch)
	d := n.describe()
	own := d.node(n.cluster.ID())
	s.gauge(infoDesc, 1, n.o.Cluster.Version, n.cluster.Cluster(), own.ID, own.Name)
	s.gauge(volumesDesc, float64(d.Names.Len()))
	s.gauge(badDesc, float64(d.Bad.Len()))
	for name := range d.Names.All() {
		h, ok := d.Head(name)
		if !ok {
			continue
		}
		a, _ := d.Attachment(h.Line())
		s.gauge(sizeDesc, float64(h.Name.Record.Size), name)
		s.gauge(snapshotDesc, float64(h.Name.Record.Snapshots), name)
		s.yes(attachedDesc, a.Node == own.ID, name)
	}
	in, out := n.cluster.Sessions()
	s.gauge(sessionsDesc, float64(in), "in")
	s.gauge(sessionsDesc, float64(out), "out")
	connections, sums := n.ledger.Read([]*nbd.Server{n.server})
	open := ledger.Collect(ch, connections)
	for name, counters := range sums {
		ledger.CollectExport(ch, name, open[name], counters)
	}
	c.cluster(s)
	c.disks(s)
	c.jobs(s, d)
}

// jobs tells of the background work of the node.
func (c collector) jobs(s send, d *describer) {
	own := c.node.cluster.ID()
	count, moved := map[[2]string]int{}, map[job.Kind]int64{}
	for _, k := range job.Kinds() {
		count[[2]string{string(k), "running"}], moved[k] = 0, 0
	}
	for _, j := range c.node.cluster.Jobs() {
		x := d.job(own, j)
		count[[2]string{string(x.Kind), x.State}]++
		moved[x.Kind] += x.Moved
	}
	for key, n := range count {
		s.gauge(jobsDesc, float64(n), key[0], key[1])
	}
	for kind, n := range moved {
		s.gauge(movedDesc, float64(n), string(kind))
	}
	for _, x := range d.scrubs() {
		if x.Node.ID != own {
			continue
		}
		ended := 0.0
		if x.Ended != nil {
			ended = float64(x.Ended.Unix())
		}
		s.gauge(scrubbedDesc, ended, x.Disk, x.Kind)
		s.gauge(scrubBadDesc, float64(x.Bad), x.Disk, x.Kind)
	}
}

// cluster tells how the cluster is.
func (c collector) cluster(s send) {
	st, err := c.node.clusterStatus()
	if err != nil {
		return
	}
	nodes := map[string]int{"up": 0, "away": 0, "draining": 0}
	for _, n := range st.Nodes {
		nodes[n.State]++
	}
	for state, count := range nodes {
		s.gauge(nodesDesc, float64(count), state)
	}
	for state := steward.Healthy; state <= steward.Unavailable; state++ {
		s.gauge(groupsDesc, float64(st.States[state.String()]), state.String())
	}
	left := 0
	if r := st.Recovery; r != nil {
		left = r.Total - r.Done
	}
	s.gauge(copiesDesc, float64(left))
	for _, disk := range st.Disks {
		if disk.Node.ID == st.Asked.ID {
			s.gauge(diskGroupsDesc, float64(disk.Groups), disk.ID, "member")
			s.gauge(diskGroupsDesc, float64(disk.Joining), disk.ID, "joining")
		}
	}
}

// disks tells of the disks of the node.
func (c collector) disks(s send) {
	for id, st := range c.node.cluster.DiskStats() {
		s.gauge(diskSizeDesc, float64(st.Size), id)
		s.gauge(diskUsedDesc, float64(st.Used), id)
		s.gauge(diskFreeDesc, float64(st.Free), id)
		s.yes(diskFullDesc, st.Full || st.MetaFull, id)
		s.gauge(diskDirtyDesc, float64(st.Unflushed*64<<10), id)
		s.counter(flushesDesc, st.Flushes, id)
		s.counter(rotDesc, st.Rot, id)
		s.counter(repairedDesc, st.Repaired, id)
	}
}
