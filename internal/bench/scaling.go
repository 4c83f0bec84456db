package main

import (
	"bytes"
	"fmt"
	"math"
	"time"

	placement "github.com/strata-storage/strata/cluster/place"
)

// clusterSizes are the numbers of nodes that are asked about.
var clusterSizes = []int{10, 100, 500}

// What a cluster of a size is supposed to have.
const (
	supposedCopies    = 3
	supposedVolumes   = 20 // for each node
	supposedSnapshots = 50 // of each volume
	// recordBytes is what the change of a group takes on its way to a node, about:
	// key, value in JSON and what the stream adds.
	recordBytes = 500
	// stepsOfMove is how often the record of a group changes when a disk replaces
	// another: one goes, one joins, it becomes a member.
	stepsOfMove = 3
	// leaseRenewals is how often a lease is renewed within its time.
	leaseRenewals = 6
	leaseSeconds  = 10
)

// A placing is what placement does to a cluster of a size.
type placing struct {
	nodes       int
	zones       int // 0: each node is one
	fewest      float64
	most        float64 // of the groups of a disk, over what its weight should have
	deviation   float64
	added, gone float64       // what moves when a node comes or goes, over the least possible
	took        time.Duration // for one group
}

// disksOf makes the disks of a cluster: of three each second one is twice as large.
func disksOf(nodes, zones int) (disks []placement.Disk) {
	for i := range nodes {
		d := placement.Disk{ID: fmt.Sprintf("disk%d", i), Node: fmt.Sprintf("node%d", i), Weight: 1 << 40}
		if zones > 0 {
			d.Zone = fmt.Sprintf("zone%d", i%zones)
		}
		if zones == 0 && i%3 == 1 {
			d.Weight *= 2
		}
		disks = append(disks, d)
	}
	return disks
}

// placeAll places all groups.
func placeAll(disks []placement.Disk) ([][]string, error) {
	m, err := placement.New(disks)
	if err != nil {
		return nil, err
	}
	all := make([][]string, placement.Groups)
	for i := range all {
		all[i] = m.Disks(uint64(i), supposedCopies)
	}
	return all, nil
}

// simulate places the groups of a cluster, of one with a node more and of one with a node
// less.
func simulate(nodes, zones int) (p placing, err error) {
	p = placing{nodes: nodes, zones: zones, fewest: math.Inf(1)}
	disks := disksOf(nodes+1, zones)
	begin := time.Now()
	larger, err := placeAll(disks)
	if err != nil {
		return p, err
	}
	p.took = time.Since(begin) / placement.Groups
	all, err := placeAll(disks[:nodes])
	if err != nil {
		return p, err
	}
	smaller, err := placeAll(disks[1:nodes])
	if err != nil {
		return p, err
	}
	count, weight := map[string]int{}, 0.0
	for _, list := range all {
		for _, id := range list {
			count[id]++
		}
	}
	for _, d := range disks[:nodes] {
		weight += float64(d.Weight)
	}
	var squares float64
	for _, d := range disks[:nodes] {
		share := float64(count[d.ID]) / (placement.Groups * supposedCopies * float64(d.Weight) / weight)
		p.fewest, p.most = min(p.fewest, share), max(p.most, share)
		squares += (share - 1) * (share - 1)
	}
	p.deviation = math.Sqrt(squares / float64(nodes))
	p.added = quotient(float64(newIn(larger, all)), float64(held(larger, disks[nodes].ID)))
	p.gone = quotient(float64(newIn(smaller, all)), float64(held(all, disks[0].ID)))
	return p, nil
}

// held is how many groups a disk has.
func held(all [][]string, id string) (n int) {
	for _, list := range all {
		for _, d := range list {
			if d == id {
				n++
			}
		}
	}
	return n
}

// newIn is how many copies are to be made for one placement after another one.
func newIn(after, before [][]string) (n int) {
	for i, list := range after {
		has := map[string]bool{}
		for _, d := range before[i] {
			has[d] = true
		}
		for _, d := range list {
			if !has[d] {
				n++
			}
		}
	}
	return n
}

// writeScaling writes what follows from the costs for clusters of other sizes.
func (r *report) writeScaling(dir string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Scaling\n\nWritten by `make bench PART=cluster`; figures are never edited by hand. Of clusters with up to five nodes costs are [measured](benchmarks-cluster.md); what larger ones cost is computed from these, and placement is simulated with the code that clusters use. Nobody has run 500 nodes.\n\n")
	r.cluster.writeSizes(&b)
	if err := writePlacing(&b); err != nil {
		return err
	}
	return writePage(dir, "scaling", b.Bytes())
}

// writeSizes writes what the agreed state costs.
func (c *clusterReport) writeSizes(b *bytes.Buffer) {
	volume, snapshot, group, node := c.rateOf("memory of a volume"), c.rateOf("memory of a snapshot"), c.rateOf("memory of a group"), c.rateOf("resident")
	if volume == 0 {
		return
	}
	fmt.Fprintf(b, "## What nodes agree on\n\nWith %d volumes for each node, %d snapshots of each of them, %d copies and %d placement groups. A volume costs %.0f B of memory, a snapshot %.0f B, a group %.0f B: in nodes that vote, which have etcd's share of it, too. One transaction after the other takes %.2f ms.\n\n",
		supposedVolumes, supposedSnapshots, supposedCopies, placement.Groups, volume, snapshot, group, millis(median50(c.times[onTmpfs+": make a snapshot"])))
	fmt.Fprint(b, "| |")
	for _, n := range clusterSizes {
		fmt.Fprintf(b, " %d nodes |", n)
	}
	fmt.Fprint(b, "\n|---|---|---|---|\n")
	for _, row := range []struct {
		what string
		of   func(n float64) string
	}{
		{"nodes that vote", func(float64) string { return "5" }},
		{"volumes, snapshots", func(n float64) string {
			return fmt.Sprintf("%.0f, %.0f", n*supposedVolumes, n*supposedVolumes*supposedSnapshots)
		}},
		{"memory for them in each node, at most", func(n float64) string {
			return fmt.Sprintf("%.0f MB", (n*supposedVolumes*(volume+supposedSnapshots*snapshot)+placement.Groups*group)/1e6)
		}},
		{"the rest of a node that is idle, as measured", func(float64) string { return fmt.Sprintf("%.0f MB", node/1e6) }},
		{"renewals of leases, all nodes, each second", func(n float64) string { return fmt.Sprintf("%.0f", n*leaseRenewals/leaseSeconds) }},
		{"groups of a disk, one in each node", func(n float64) string { return fmt.Sprintf("%.0f", placement.Groups*supposedCopies/n) }},
		{"changes of records when a node is lost for good", func(n float64) string {
			return fmt.Sprintf("%.0f", stepsOfMove*placement.Groups*supposedCopies/n)
		}},
		{"what each node hears of that, about", func(n float64) string {
			return fmt.Sprintf("%.1f MB", stepsOfMove*placement.Groups*supposedCopies/n*recordBytes/1e6)
		}},
		{"what the nodes that vote send for that, about", func(n float64) string {
			return fmt.Sprintf("%.0f MB", stepsOfMove*placement.Groups*supposedCopies*recordBytes/1e6)
		}},
		{"nodes that take part in the rebuild of a disk", func(n float64) string {
			return fmt.Sprintf("%.0f", min(n-1, placement.Groups*supposedCopies/n*(supposedCopies-1)))
		}},
		{"each one's share of what is copied", func(n float64) string { return fmt.Sprintf("%.1f %%", 100/(n-1)) }},
		{"connections of a gateway whose volumes are everywhere", func(n float64) string { return fmt.Sprintf("%.0f", 2*(n-1)) }},
	} {
		fmt.Fprintf(b, "| %s |", row.what)
		for _, n := range clusterSizes {
			fmt.Fprintf(b, " %s |", row.of(float64(n)))
		}
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b)
}

// writePlacing writes what placement does.
func writePlacing(b *bytes.Buffer) error {
	fmt.Fprintf(b, "## Placement\n\n%d groups of %d copies. *Balance* is what disks have over what they should have by their weight; without zones every third disk is twice as large. *Moves* is how many copies are made when a node comes or goes, over the least possible: those that the new one should have, or that the old one had.\n\n", placement.Groups, supposedCopies)
	fmt.Fprint(b, "| nodes | zones | least | most | deviation | moves, one more | moves, one less | time for a group |\n|---|---|---|---|---|---|---|---|\n")
	for _, n := range clusterSizes {
		for _, zones := range []int{0, 5} {
			p, err := simulate(n, zones)
			if err != nil {
				return err
			}
			name := "each node"
			if zones > 0 {
				name = fmt.Sprint(zones)
			}
			fmt.Fprintf(b, "| %d | %s | %.2f | %.2f | %.3f | %.2fx | %.2fx | %s |\n", n, name, p.fewest, p.most, p.deviation, p.added, p.gone, micros(p.took))
		}
	}
	fmt.Fprintln(b)
	return nil
}
