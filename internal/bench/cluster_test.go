package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// madeCluster is a report with made-up figures.
func madeCluster() *report {
	r := newReport(options{rounds: 3, seconds: 1, size: 256})
	c := newClusterReport()
	r.cluster = c
	for _, ld := range clusterLoads() {
		c.add(clusterRow{onTmpfs, ld.String(), ld.bs, map[string]figure{
			rawName:        {iops: 100e3, cpu: 5e3},
			clusterPeer:    {iops: 50e3, cpu: 9e3},
			usual.String(): {iops: 30e3, cpu: 40e3, sys: 30e3, busy: 0.5},
		}, map[string]float64{usual.String(): 2.1}})
	}
	c.add(clusterRow{onDisk, flushedEach, chunk, map[string]figure{rawName: {iops: 1000}, usual.String(): {iops: 2838}}, nil})
	for _, k := range kills {
		c.note(onTmpfs, k, 400*time.Millisecond)
	}
	c.note(onTmpfs, kills[1], 9*time.Second)
	c.note(onDisk, "start, new", 700*time.Millisecond)
	c.note(onTmpfs, "snapshot", 3*time.Millisecond)
	for what, took := range map[string]time.Duration{
		p99Calm: time.Millisecond, p99Busy: 3 * time.Millisecond, p99Burnt: 2500 * time.Microsecond,
		p50Calm: 200 * time.Microsecond, p50Busy: 300 * time.Microsecond, timeStart: 100 * time.Millisecond,
	} {
		c.note(onTmpfs, what, took)
	}
	for what, v := range map[string]float64{
		rateCopy: 400e6, rateRebuild: 100e6, perByte(rateCopy): 4, perByte(rateRebuild): 8, shareBurnt: 0.5, "first write after a snapshot": 19e3, "rewrite after a snapshot": 20e3,
		"memory of a volume": 1000, "memory of a snapshot": 500, "memory of a group": 250, "resident": 60e6, "idle CPU": 0.004, "idle bytes": 900,
	} {
		c.rate(what, v)
	}
	return r
}

func TestClusterReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := madeCluster().writeCluster(dir); err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"benchmarks-cluster.md": {
			"| 4 KiB random write, depth 1 | ≥ 0.20 R | **1 of 1** | 0.30 R |",
			"| 4 KiB random write, depth 16 | ≥ 0.35 R | 0 of 1 | 0.30 R | tmpfs: 3 nodes, 3 copies | processors: client 25 %, nodes 60 % (system calls 45 %), idle 15 % |",
			"| 4 KiB random write, depth 16, over Sheepdog | ≥ 5.00x | **1 of 1** | 8.42x |",
			"| Each write flushed, on a disk, over Sheepdog | ≥ 4.00x | 0 of 1 | 2.00x |",
			"| First write after a snapshot, over a rewrite | ≥ 0.90x | **1 of 1** | 0.95x |",
			"| First write to a clone, over a rewrite | ≥ 0.90x | not measured |",
			"| Writes stop after kill -9 of a node | ≤ 1000 ms | 4 of 5 | 9000 ms | tmpfs: kill the gateway | the lease of the dead gateway, 10 s, has to end",
			"| Rebuild, over a copy of a file through TLS | ≥ 0.50x | 0 of 1 | 0.25x | rebuild | 100 ms of the 8053 ms are the start of the node; processors: 8.00 ns of all nodes for each byte, 4.00 ns of both ends of the copy; idle ",
			"| p99 of writes during a rebuild | ≤ 2.00x | 0 of 1 | 3.00x | 4 KiB random write, depth 1 | the rebuild uses ",
			"makes it 2.50x; the median is 1.50x |",
			"| beside a process that uses as much of the processors | - | 2.50 ms |",
			"| Sheepdog, as published | - | 1.00 | 2.6 k/s |",
			"| CPU of an idle node | 0.40 % of a processor |",
			"| memory of a snapshot, etcd included | 500 B |",
		},
		"scaling.md": {
			"| volumes, snapshots | 200, 10000 | 2000, 100000 | 10000, 500000 |",
			"| memory for them in each node, at most | 9 MB | 56 MB | 264 MB |",
			"| renewals of leases, all nodes, each second | 6 | 60 | 300 |",
			"| 500 | 5 | ",
		},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
	}
}

// Disks have what they should by their weight, and no more moves than has to.
func TestPlacing(t *testing.T) {
	t.Parallel()
	for _, zones := range []int{0, 5} {
		p, err := simulate(20, zones)
		if err != nil {
			t.Fatal(err)
		}
		if p.fewest < 0.85 || p.most > 1.15 || p.deviation > 0.06 {
			t.Errorf("%d zones: the balance is %+v", zones, p)
		}
		if p.added < 1 || p.gone < 1 || zones == 0 && (p.added > 1.01 || p.gone > 1.01) {
			t.Errorf("%d zones: %+v moves", zones, p)
		}
	}
}

func TestLoopbackIsCounted(t *testing.T) {
	t.Parallel()
	if n := loopbackBytes(); n < 0 {
		t.Errorf("%d bytes", n)
	}
}
