package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"
)

// clusterTargets is the single place of the numbers for clusters.
var clusterTargets = slices.Concat(
	rowTargets(load{"randwrite", 4 << 10, 1, 1}, 0.2, 2),
	rowTargets(load{"randwrite", 4 << 10, 16, 1}, 0.35, 5),
	rowTargets(load{"randwrite", 4 << 10, 64, 1}, 0.4, 6),
	rowTargets(load{"randread", 4 << 10, 1, 1}, 0.5, 2),
	rowTargets(load{"randread", 4 << 10, 16, 1}, 0.7, 4),
	rowTargets(load{"randread", 4 << 10, 64, 1}, 0.8, 4),
	rowTargets(load{"write", 4 << 20, 4, 1}, 0.25, 3),
	rowTargets(load{"read", 4 << 20, 4, 1}, 0.6, 2),
	[]target{
		{"Each write flushed, on a disk, over Sheepdog", 4, false, "%.2fx", overSheep(onDisk, flushedEach)},
		{"First write after a snapshot, over a rewrite", 0.9, false, "%.2fx", firstOver("a snapshot")},
		{"First write to a clone, over a rewrite", 0.9, false, "%.2fx", firstOver("a clone")},
		{"Snapshot", 20, true, "%.1f ms", timeOf(median50, "snapshot", "snapshot, while a client writes")},
		{"Clone", 20, true, "%.1f ms", timeOf(median50, "clone", "clone, while a client writes")},
		{"Writes stop after kill -9 of a node", 1000, true, "%.0f ms", timeOf(worstTime, kills...)},
		{"Rebuild, over a copy of a file through TLS", 0.5, false, "%.2fx", rebuildOver},
		{"p99 of writes during a rebuild", 2, true, "%.2fx", rebuildLatency},
		{"Start of a cluster of one to the first byte", 1500, true, "%.0f ms", timeOf(median50, "start, new", "start, again")},
	},
)

// kills are what is done to nodes.
var kills = []string{killMember, killGateway, killRestarted, killLeft, killFounder}

const (
	killMember  = "kill a node with copies"
	killGateway = "kill the gateway"
	killFounder = "kill the node that founded the cluster"
	// Two ways of clients when something starts the gateway again at once.
	killRestarted = "kill the gateway, started again after 100 ms, the client waits for it"
	killLeft      = "kill the gateway, started again after 100 ms, the client goes"
)

// rowTargets are the two numbers of a row in memory: against a raw file, and against
// what Sheepdog did.
func rowTargets(ld load, overRaw, overThem float64) []target {
	return []target{
		{ld.String(), overRaw, false, "%.2f R", overR(onTmpfs, ld.String())},
		{ld.String() + ", over Sheepdog", overThem, false, "%.2fx", overSheep(onTmpfs, ld.String())},
	}
}

// rowOf finds a row.
func (c *clusterReport) rowOf(site, what string) (clusterRow, bool) {
	for _, r := range c.rows {
		if r.site == site && r.what == what {
			return r, true
		}
	}
	return clusterRow{}, false
}

func overR(site, what string) func(*report, float64) []outcome {
	return rowOutcome(site, what, func(r clusterRow) float64 { return r.figures[rawName].iops })
}

func overSheep(site, what string) func(*report, float64) []outcome {
	return rowOutcome(site, what, func(r clusterRow) float64 { return sheepFigures[r.what] })
}

func rowOutcome(site, what string, base func(clusterRow) float64) func(*report, float64) []outcome {
	return func(r *report, want float64) []outcome {
		row, ok := r.cluster.rowOf(site, what)
		f, there := row.figures[usual.String()]
		if !ok || !there || base(row) == 0 {
			return nil
		}
		return []outcome{{where: site + ": " + usual.String(), value: f.iops / base(row), bounds: slices.Concat(row.bounds(want*base(row)), r.cluster.longBounds(row), r.cluster.bareFlushes(row))}}
	}
}

// bounds tells where the time of the processors goes in the usual layout, and whether a
// throughput is out of reach for want of it.
func (r clusterRow) bounds(wanted float64) []string {
	f, cores := r.figures[usual.String()], runtime.NumCPU()
	client, nodes := f.shares(1, cores)
	text := fmt.Sprintf("processors: client %.0f %%, nodes %.0f %% (system calls %.0f %%), idle %.0f %%", client*100, nodes*100,
		nodes*quotient(float64(f.sys), float64(f.cpu))*100, max(1-client-nodes, 0)*100)
	all := []string{text}
	if limit := r.figures[gatewayName]; limit.iops > 0 {
		all = append(all, fmt.Sprintf("processes that do nothing but pass the same messages on, over the same kinds of connections, give %.0f/s, %.2f R, at %s for each",
			limit.iops, r.overRaw(gatewayName), micros(limit.cpu)))
	}
	if raw := r.figures[rawName].iops; r.site == onDisk && raw > 0 && raw/float64(usual.copies) < wanted {
		all = append(all, fmt.Sprintf("all copies lie on one disk, which flushes %.0f writes/s of a raw file: %.0f/s for each of %d", raw, raw/float64(usual.copies), usual.copies))
	}
	if each := f.cpu.Seconds() + quotient(f.busy, f.iops); each > 0 && float64(cores)/each < wanted {
		all = append(all, fmt.Sprintf("at %s of all nodes for a request %d processors give %.0f/s at most, %.0f/s are wanted", micros(f.cpu), cores, float64(cores)/each, wanted))
	}
	return all
}

// firstOver is first writes after something, over the same writes once more.
func firstOver(what string) func(*report, float64) []outcome {
	return func(r *report, _ float64) []outcome {
		first, again := r.cluster.rateOf("first write after "+what), r.cluster.rateOf("rewrite after "+what)
		if first == 0 || again == 0 {
			return nil
		}
		return []outcome{{where: fmt.Sprintf("%s: depth %d", usual, inFlight), value: first / again, bounds: r.cluster.bareBlocks(first, again)}}
	}
}

func median50(all []time.Duration) time.Duration { return quantile(slices.Clone(all), 0.5) }

func worstTime(all []time.Duration) time.Duration { return slices.Max(all) }

// timeOf makes an outcome of each time, in milliseconds.
func timeOf(of func([]time.Duration) time.Duration, names ...string) func(*report, float64) []outcome {
	return func(r *report, _ float64) (all []outcome) {
		for _, name := range names {
			for _, site := range []string{onTmpfs, onDisk} {
				if list := r.cluster.times[site+": "+name]; len(list) > 0 {
					o := outcome{where: site + ": " + name, value: math.Round(millis(of(list))*10) / 10}
					if name == killGateway {
						o.bounds = []string{fmt.Sprintf("the lease of the dead gateway, %d s, has to end before another node may write", leaseSeconds)}
					}
					all = append(all, o)
				}
			}
		}
		return all
	}
}
