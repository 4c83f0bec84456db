package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A clusterReport collects what was measured of clusters.
type clusterReport struct {
	rows  []clusterRow
	times map[string][]time.Duration // by place and name
	rates map[string][]float64
}

// A clusterRow holds the medians of one row by contender.
type clusterRow struct {
	site, what string
	bs         int
	figures    map[string]figure
	// sent is what nodes sent each other for each byte of clients.
	sent map[string]float64
}

func newClusterReport() *clusterReport {
	return &clusterReport{times: map[string][]time.Duration{}, rates: map[string][]float64{}}
}

// note notes a time, rate a number that the median is of.
func (c *clusterReport) note(site, what string, took time.Duration) {
	c.times[site+": "+what] = append(c.times[site+": "+what], took)
	if !strings.HasPrefix(what, "snapshot") && !strings.HasPrefix(what, "clone") {
		fmt.Printf("%s: %s: %.1f ms\n", site, what, millis(took))
	}
}

func (c *clusterReport) rate(what string, v float64) { c.rates[what] = append(c.rates[what], v) }

// rateOf is the median of a number, 0 if it was not measured.
func (c *clusterReport) rateOf(what string) float64 {
	if c == nil || len(c.rates[what]) == 0 {
		return 0
	}
	return middle(c.rates[what], func(v float64) float64 { return v })
}

// contenderNames are those in the order of the plan.
func contenderNames(figures map[string]figure) (names []string) {
	all := []string{rawName, clusterPeer, gatewayName}
	for _, y := range layouts {
		all = append(all, y.String())
	}
	for _, name := range all {
		if _, ok := figures[name]; ok {
			names = append(names, name)
		}
	}
	return names
}

func (c *clusterReport) add(r clusterRow) {
	c.rows = append(c.rows, r)
	fmt.Printf("%s: %-42s", r.site, r.what)
	for _, name := range contenderNames(r.figures) {
		fmt.Printf("  %s %.2f %s", name, r.overRaw(name), micros(r.figures[name].cpu))
	}
	fmt.Printf("  (R %.1f k/s)\n", r.figures[rawName].iops/1e3)
}

func (r clusterRow) overRaw(name string) float64 {
	return quotient(r.figures[name].iops, r.figures[rawName].iops)
}

// writeCluster writes the page about clusters and its picture, and what follows for
// larger ones.
func (r *report) writeCluster(dir string) error {
	var b bytes.Buffer
	c := r.cluster
	fmt.Fprintf(&b, "# Benchmarks of clusters\n\nWritten by `make bench PART=cluster`; figures are never edited by hand. [Benchmarks](benchmarks.md) has those of serving; [scaling](scaling.md) has what follows for clusters of other sizes.\n\n")
	fmt.Fprintf(&b, "%s, %d processors, %s. All nodes and all clients share them: what is compared is what the same work costs, and more nodes cannot make a cluster faster here. Volumes of %d MiB, filled with random bytes; clients use the NBD gateway of the first node through a Unix socket, nodes speak TLS over the loopback interface. ",
		cpuModel(), runtime.NumCPU(), kernelRelease(), r.o.size)
	fmt.Fprintf(&b, "Every figure is the median of %d rounds of %d s; in each round all take their turn, and the clusters that wait are idle. The run took %s. Peers: %s.\n\n", r.o.rounds, r.o.seconds, r.took.Round(time.Second), strings.Join(versions(), ", "))
	fmt.Fprintf(&b, "**R** is the same server exporting a raw file. *qemu-nbd* serves the same file. *Echo* is what three copies cost without disks, see the notes. *Sheepdog*: %s\n\n", sheepText)
	fmt.Fprint(&b, "![Throughput over that of a raw file](benchmarks-cluster.svg)\n\n")
	r.writeTargets(&b, clusterTargets, "The numbers that the project has set itself for three nodes with three copies. Not measured here: how long writes stop after a silent partition, which the tests bound.")
	c.writeRows(&b)
	c.writeSent(&b)
	c.writeTimes(&b)
	c.writeRebuild(&b)
	c.writeCosts(&b)
	if err := writePage(dir, "benchmarks-cluster", b.Bytes()); err != nil {
		return err
	}
	if bars := c.bars(); len(bars) > 0 {
		if err := draw(filepath.Join(dir, "benchmarks-cluster.svg"), "Throughput over that of a raw file", bars); err != nil {
			return err
		}
	}
	return r.writeScaling(dir)
}

func (c *clusterReport) bars() (all []bar) {
	for _, r := range c.rows {
		for _, name := range contenderNames(r.figures) {
			if name != rawName {
				all = append(all, bar{r.site + ": " + r.what + ": " + name, r.overRaw(name)})
			}
		}
	}
	return all
}

// writeRows writes a table for each row.
func (c *clusterReport) writeRows(b *bytes.Buffer) {
	for _, r := range c.rows {
		fmt.Fprintf(b, "## %s, %s\n\n| | over R | over Sheepdog | throughput | p50 | p99 | CPU/request | client busy |\n|---|---|---|---|---|---|---|---|\n", r.what, r.site)
		for _, name := range contenderNames(r.figures) {
			f, sheep := r.figures[name], "-"
			if base := sheepFigures[r.what]; base > 0 && name == usual.String() {
				sheep = fmt.Sprintf("%.2f", f.iops/base)
			}
			fmt.Fprintf(b, "| %s | **%.3f** | %s | %s | %s | %s | %s | %.0f %% |\n", name, r.overRaw(name), sheep, throughput(load{bs: r.bs}, f), micros(f.p50), micros(f.p99), micros(f.cpu), f.busy*100)
		}
		if base := sheepFigures[r.what]; base > 0 {
			fmt.Fprintf(b, "| Sheepdog, as published | - | 1.00 | %s | - | - | - | - |\n", throughput(load{bs: r.bs}, figure{iops: base}))
		}
		fmt.Fprintln(b)
	}
}

// writeSent writes what nodes send each other.
func (c *clusterReport) writeSent(b *bytes.Buffer) {
	if len(c.rows) == 0 {
		return
	}
	fmt.Fprint(b, "## Bytes between nodes for each byte of a client\n\nAll that went through the loopback interface meanwhile, headers, TLS, acknowledgements of TCP and what other clusters said in idleness included. A volume with copies on other nodes needs one byte for each of them.\n\n| | ")
	var names []string
	for _, y := range layouts {
		names = append(names, y.String())
	}
	fmt.Fprintf(b, "%s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, r := range c.rows {
		fmt.Fprintf(b, "| %s, %s |", r.what, r.site)
		for _, name := range names {
			fmt.Fprintf(b, " %.2f |", r.sent[name])
		}
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b)
}

// writeTimes writes what takes how long.
func (c *clusterReport) writeTimes(b *bytes.Buffer) {
	names := []string{"snapshot", "snapshot, while a client writes", "clone", "clone, while a client writes", "start, new", "start, again"}
	fmt.Fprint(b, "## Times\n\nMilliseconds. Snapshots and clones are asked for through the control socket; *start* is from the start of the program to the first byte of a volume, with a new data directory and with that of a node that was stopped. After *kill* it is the longest time in which no write of a client ends that makes one after the other; when its gateway is killed it connects to another node, unless it waits for the one that is *started again*, as by the unit file.\n\n| | where | median | longest | times |\n|---|---|---|---|---|\n")
	for _, name := range append(names, kills...) {
		for _, site := range []string{onTmpfs, onDisk} {
			if list := c.times[site+": "+name]; len(list) > 0 {
				fmt.Fprintf(b, "| %s | %s | %.1f | %.1f | %d |\n", name, site, millis(median50(list)), millis(worstTime(list)), len(list))
			}
		}
	}
	fmt.Fprintln(b)
	if first := c.rateOf("first write after a snapshot"); first > 0 {
		fmt.Fprintf(b, "First writes, %d at a time, and the same ones once more: after a snapshot %.1f k/s and %.1f k/s, to a clone %.1f k/s and %.1f k/s. Single ones of Sheepdog, as published: %.0f/s and %.0f/s.\n\n", inFlight,
			first/1e3, c.rateOf("rewrite after a snapshot")/1e3, c.rateOf("first write after a clone")/1e3, c.rateOf("rewrite after a clone")/1e3, sheepFigures[sheepFirst], sheepFigures[sheepRewrite])
	}
}

// writeCosts writes what things cost.
func (c *clusterReport) writeCosts(b *bytes.Buffer) {
	fmt.Fprint(b, "## What things cost\n\n| | |\n|---|---|\n")
	if r, ok := c.rowOf(onTmpfs, load{"randwrite", 4 << 10, 64, 1}.String()); ok {
		fmt.Fprintf(b, "| CPU of all nodes for a 4 KiB write, depth 64, three copies | %s |\n", micros(r.figures[usual.String()].cpu))
	}
	if v := c.rateOf("resident"); v > 0 {
		fmt.Fprintf(b, "| CPU of an idle node | %.2f %% of a processor |\n| bytes an idle node sends | %.1f kB/s |\n| memory of a node, resident | %.0f MB |\n", c.rateOf("idle CPU")*100, c.rateOf("idle bytes")/1e3, v/1e6)
	}
	for _, what := range []string{"volume", "snapshot", "group"} {
		if v := c.rateOf("memory of a " + what); v > 0 {
			fmt.Fprintf(b, "| memory of a %s, etcd included | %.0f B |\n| make a %s, one after the other | %.2f ms |\n", what, v, what, millis(median50(c.times[onTmpfs+": make a "+what])))
		}
	}
	fmt.Fprintln(b)
}
