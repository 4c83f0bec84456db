package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/bench/vm"
)

// madeSnapshots is a report with made-up figures for every row of the plan:
// R makes 100 000 requests a second, we half of that, peers a tenth.
func madeSnapshots() *report {
	r := newReport(options{rounds: 3, seconds: 1, size: 1024})
	r.snaps = newSnapReport()
	figures := func(names ...string) map[string][]figure {
		all := map[string][]figure{rawName: {{iops: 100e3, cpu: 5e3, p99: 1e6, busy: 0.9}}}
		for _, name := range names {
			all[name] = []figure{{iops: 50e3, cpu: 10e3, p99: 2e6, busy: 0.4}}
		}
		for _, k := range []keeper{overlays, subclusters, internals} {
			all[k.name] = []figure{{iops: 10e3, cpu: 50e3, p99: 9e6}}
		}
		return all
	}
	ours := []string{staged.name, redirect.name, copyOut.name, bitmap.name}
	for _, site := range []string{onTmpfs, onDisk} {
		for _, kind := range []string{firstWrites, flushedWrites} {
			row := newSnapRow(site, kind, 1, figures(ours...))
			row.space = map[string]float64{staged.name: 2, redirect.name: 1.01, copyOut.name: 1.02, bitmap.name: 1.5, overlays.name: 13}
			r.snaps.add(row)
		}
		row := newSnapRow(site, crowdedWrites, 1, figures(copyOut.name, bitmap.name, contender{copyOut, crowd}.label(), contender{bitmap, crowd}.label()))
		row.space = map[string]float64{}
		r.snaps.add(row)
		r.snaps.changes[site] = &timing{
			map[string]time.Duration{"create staged": 2e6, "delete qcow2 internal": 900e6},
			map[string]time.Duration{"create staged": 3e6, "delete qcow2 internal": 900e6},
		}
		r.snaps.engine[site] = &engineFigures{
			commit: 1e6, small: 2e6, large: 2e6, many: 3e6, pause: paused{pausing{9e6, 3e6}, pausing{5e6, 1e6}, pausing{2e6, 5e5}}, deleting: 1e6, rate: 600e3, batch: 1.1, tree: 1, latency: 1.6,
			suspending: 3e6, opening: 1e9, exceptions: 5_000_000, memory: 100, lookup: 400, amplification: 1.03, barriers: 1, handOver: 6e6,
			deleted: 50_000, snapshotsMany: manySnapshots, localHandOver: 5e6, busyHandOvers: 12,
			refresh:      []refreshing{{1, 1e5}, {10, 2e5}, {100, 1e6}, {1000, 9e6}},
			refreshLarge: []refreshing{{1, 1e5}, {10, 2e5}, {100, 1e6}, {1000, 18e6}},
			spent:        map[string]*spending{"latency": {cpu: 15e8, wall: 1e9}},
		}
	}
	for _, n := range kept {
		for _, kind := range []string{readDisk, readOldest, laterWrites} {
			r.snaps.add(newSnapRow(onTmpfs, kind, n, figures(ours[:3]...)))
		}
	}
	r.snaps.vm = &vmReport{missing: "the virtual machine was stopped", rows: []vm.Row{
		{Site: vm.InRAM, Kind: vm.Create, Snapshots: 1, Over: map[string]float64{"copyout": 4.1}, Ended: map[string]float64{"copyout": 9}},
		{Site: vm.InRAM, Kind: vm.FirstWrites, Snapshots: 10, Over: map[string]float64{"redirect": 0.95}, Space: map[string]float64{"redirect": 1.04}},
		{Site: vm.InRAM, Kind: vm.Reads, Snapshots: 1000, Over: map[string]float64{"dm-thin 64 KiB": 0.4}},
	}}
	return r
}

func TestSnapshotReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := madeSnapshots().writeSnapshots(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "benchmarks-snapshots.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| Reads of the disk, copyout, any number of snapshots | ≥ 0.98 R | 0 of 4 | 0.50 R |",
		"| First writes, staged and redirect, tmpfs | ≥ 0.95 R | 0 of 2 | 0.50 R | tmpfs: first writes: staged | the server uses 10.0 µs for a request, with a raw file 5.0 µs; processors: client ",
		"| Learn of 1000 commits of another engine over 100, for each | ≤ 1.30x | **2 of 2** | 0.90x |",
		"| The same, a store ten times as large over one | ≤ 1.30x | 0 of 2 | 2.00x |",
		"processors the process uses 1.50, not ",
		"| learn of 1000 commits of another engine, and with a store ten times as large | 9.00 ms, 18.00 ms |",
		"| create, RAM | - | - | - | - | - | 4.1 (9.0) |",
		"| first writes, RAM | 10 | - | - | - | - | **0.95** (1.0x) | - |",
		"| reads of the disk, RAM | 1000 | - | - | **0.40** | - | - | - |",
		"**Not all was measured: the virtual machine was stopped.**",
		"| The same over qcow2 with 64 KiB | ≥ 2.50x | **2 of 2** | 5.00x |",
		"| The same, 1000 snapshots over 1 | ≥ 0.95x | **4 of 4** | 1.00x |",
		"| First writes, copyout, disk, over R with a flush after every 32 | ≥ 0.80 R | 0 of 2 | 0.50 R |",
		"| Copyout, 64 snapshots over 1 | ≥ 0.95x | **4 of 4** | 1.00x |",
		"| Space for first writes, over the data | ≤ 1.05x | 4 of 6 | 1.50x | tmpfs: bitmap |",
		"| Create, beyond 1.3 times a commit | ≤ 1.00 ms | **2 of 2** | 0.70 ms |",
		"| Open after a crash, 10 million exceptions | ≤ 0.50 s | 0 of 2 | 2.00 s |",
		"| Pause of a write by create, p99, beyond that by a flush | ≤ 5.0 ms | **2 of 2** | 4.0 ms |",
		"| Pause of all writes by create, p99, beyond that by a flush | ≤ 5.0 ms | **2 of 2** | 2.0 ms |",
		"| longest of 32 writes in flight during that, p99 of snapshots | 9.00 ms |",
		"| ... during a flush, and in times with neither | 5.00 ms, 2.00 ms |",
		"| Lookup, 10 million exceptions | ≤ 0.50 µs | **2 of 2** | 0.40 µs |",
		"| staged | **0.50** | 50.0 k/s |",
		"| 1000 | **1.00** 100.0 k/s 5.0 µs |",
		"| create | 2.0 (3) | - | - | - | - |",
		"| delete | - | - | - | 900.0 (900) | - |",
		"| open after a crash with 5000000 exceptions | 1.00 s |",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if picture, err := os.ReadFile(filepath.Join(dir, "benchmarks-snapshots.svg")); err != nil || !strings.Contains(string(picture), "<svg") {
		t.Errorf("no picture: %v", err)
	}
}

// Every number is about something that the plan measures, and about nothing
// that was not measured.
func TestSnapshotTargets(t *testing.T) {
	t.Parallel()
	full, empty := madeSnapshots(), newReport(options{})
	for _, target := range snapTargets {
		if len(target.of(full, target.want)) == 0 {
			t.Errorf("%s: nothing in the plan is about it", target.what)
		}
		if all := target.of(empty, target.want); all != nil {
			t.Errorf("%s: %v of nothing", target.what, all)
		}
	}
}

func TestSnapshotBounds(t *testing.T) {
	t.Parallel()
	row := newSnapRow(onTmpfs, firstWrites, 1, map[string][]figure{
		rawName: {{iops: 100e3, cpu: 5e3}}, "a": {{iops: 80e3, busy: 0.9, cpu: 5e3}}, "b": {{iops: 80e3, busy: 0.5, cpu: 5e3}},
	})
	if got := row.bounds("a", rawName, 0.95); !slices.Equal(got, []string{"client 90 % busy: 0.89x if it never waited"}) {
		t.Errorf("%q", got)
	}
	if got := row.bounds("b", rawName, 0.95); got != nil {
		t.Errorf("%q", got)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	all := []time.Duration{3, 1, 2, 4}
	if quantile(all, 0.5) != 3 || quantile(all, 0.99) != 4 || quantile(nil, 0.5) != 0 {
		t.Errorf("%v %v", quantile(all, 0.5), quantile(all, 0.99))
	}
}

// Only requests that were under way with the snapshot count, and only times in
// which none of any lane ended.
func TestPauses(t *testing.T) {
	t.Parallel()
	times := []span{{10, 20}, {50, 51}}
	written := [][]span{{{0, 9}, {9, 12}, {21, 60}}, {{15, 30}}}
	if got := longest(times, written); !slices.Equal(got, []time.Duration{15, 39}) {
		t.Errorf("the longest are %v", got)
	}
	if got := standstills(times, written); !slices.Equal(got, []time.Duration{18, 30}) {
		t.Errorf("the standstills are %v", got)
	}
	if got := standstills(times, nil); !slices.Equal(got, []time.Duration{0, 0}) {
		t.Errorf("the standstills of nothing are %v", got)
	}
}

// What is measured within the process works, with a store that is small.
func TestEngine(t *testing.T) {
	t.Parallel()
	o := options{dir: t.TempDir(), exceptions: 2000}
	l := &snapLab{&lab{o: o}, onDisk, newSnapReport()}
	e := &engineFigures{}
	for _, f := range []func() error{
		func() error { return l.engineDelete(t.Context(), e) },
		func() error { return l.engineBatch(t.Context(), e) },
		func() error { return l.engineOpen(t.Context(), e) },
		func() error { return l.engineFlush(t.Context(), e) },
		func() error { return l.engineLock(t.Context(), e) },
		func() error { return l.engineRefresh(t.Context(), e) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if e.rate <= 0 || e.batch <= 0 || e.opening <= 0 || e.lookup <= 0 || e.handOver <= 0 || e.barriers < 1 || e.amplification < 1 || e.localHandOver <= 0 ||
		e.proportion() <= 0 || e.growth() <= 0 || e.spent["refresh"].wall <= 0 {
		t.Errorf("%+v", *e)
	}
	left, err := os.ReadDir(o.dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What the processors did is said of every row that was measured.
func TestAccounts(t *testing.T) {
	t.Parallel()
	row := newSnapRow(onDisk, flushedWrites, 1, map[string][]figure{
		rawName: {{iops: 100e3, cpu: 5e3, busy: 0.5}}, "a": {{iops: 80e3, busy: 0.6, cpu: 10e3}}, "b": {{}},
	})
	if got, want := row.account("a", 2), "processors: client 30 %, server 40 %, neither 30 %, full they would give 1.14 R"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if got, want := row.flushing("a", 200*time.Microsecond), "a bare flush of this place takes 0.200 ms, one for 32 writes is 50 % of the time"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if row.account("b", 2) != "" || row.flushing("a", 0) != "" {
		t.Error("something is said of what was not measured")
	}
	if got, want := (spending{cpu: 15e8, wall: 1e9}).account(2), "of 2 processors the process uses 1.50, not 0.50"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if got := (spending{}).account(2); got != "" {
		t.Errorf("%q", got)
	}
}

// No number that is missed is left without a reason.
func TestReasons(t *testing.T) {
	t.Parallel()
	r := madeSnapshots()
	for _, target := range snapTargets {
		for _, o := range target.verdict(r).missed {
			if len(o.bounds) == 0 {
				t.Errorf("%s, %s: nothing is said of why", target.what, o.where)
			}
		}
	}
}
