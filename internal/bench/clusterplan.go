package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strata-storage/strata/internal/units"
)

// A layout is a cluster with a volume in it.
type layout struct{ nodes, copies int }

func (l layout) String() string {
	return fmt.Sprintf("%s, %s", units.Plural(l.nodes, "node"), units.Plural(l.copies, "copy"))
}

// usual is the layout that the numbers are about.
var usual = layout{3, 3}

// layouts are those that are compared, by nodes.
var layouts = []layout{{1, 1}, {3, 1}, {3, 2}, {3, 3}, {5, 3}}

// clusterLoads are the rows.
func clusterLoads() []load {
	loads := random(1, 16, 64)
	for _, rw := range []string{"write", "read"} {
		loads = append(loads, load{rw, 4 << 20, 4, 1})
	}
	return loads
}

// What is measured besides.
const (
	flushedEach = "4 KiB random write, each flushed, depth 16"
	clusterPeer = "qemu-nbd"
	// flushedDepth is how many writers flush each write.
	flushedDepth = 16
)

// runCluster measures clusters.
func runCluster(ctx context.Context, o options) (*report, error) {
	report := newReport(o)
	report.cluster = newClusterReport()
	run := o.dir
	for i, site := range []string{onTmpfs, onDisk} {
		if site == onDisk {
			if o.disk == "" {
				break
			}
			dir, err := diskDir(o.disk)
			if err != nil {
				return nil, err
			}
			defer os.RemoveAll(dir)
			o.dir = dir
		}
		start := time.Now()
		lab, err := newLab(o)
		if err != nil {
			return nil, err
		}
		lab.run, lab.count = run, 20*i
		if err := (&clusterLab{lab, site, report.cluster}).measureAll(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", site, err)
		}
		fmt.Printf("%s: all of it took %s\n", site, time.Since(start).Round(time.Second))
	}
	o.dir = run
	if o.only.MatchString("memory") {
		if err := report.cluster.measureMemory(ctx, o.dir); err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
	}
	return report, nil
}

// diskDir makes a folder on a disk.
func diskDir(parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// A clusterLab measures clusters in one place.
type clusterLab struct {
	*lab
	site   string
	report *clusterReport
}

// wants reports whether something is to be measured.
func (l *clusterLab) wants(what string) bool { return l.o.only.MatchString(l.site + ": " + what) }

func (l *clusterLab) measureAll(ctx context.Context) error {
	steps := []func(context.Context) error{l.measureLoads, l.measureStart}
	if l.site == onTmpfs {
		steps = append(steps, l.measureUsual)
	}
	for _, f := range steps {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// contenders starts all that is compared; echoes are for the rows with that kind of load.
func (l *clusterLab) contenders(ctx context.Context) (all []*running, echoes map[string]*running, stop func(), err error) {
	var stops []func()
	echoes = map[string]*running{}
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	raw := strataFile
	raw.name = rawName
	start := func(s server) (*running, error) {
		r, err := l.start(ctx, s, overUnix)
		if err == nil {
			stops = append(stops, r.stop)
		}
		return r, err
	}
	for _, s := range []server{raw, qemuNBD} {
		if s.program != "" && !isInstalled(s.program) {
			continue
		}
		r, err := start(s)
		if err != nil {
			return nil, nil, stop, err
		}
		all = append(all, r)
	}
	for _, rw := range []string{"randwrite", "write"} { // messages of an echo are of one size
		if echoes[rw], err = start(echoGateway); err != nil {
			return nil, nil, stop, err
		}
	}
	beds := map[int]*clusterBed{}
	for _, y := range layouts {
		b := beds[y.nodes]
		if b == nil {
			if b, err = l.openCluster(ctx, y.String(), y.nodes); err != nil {
				return nil, nil, stop, err
			}
			beds[y.nodes] = b
			stops = append(stops, b.close)
		}
		volume := fmt.Sprintf("vm%d", y.copies)
		if err := b.volume(ctx, volume, y.copies, true); err != nil {
			return nil, nil, stop, err
		}
		all = append(all, b.serving(y.String(), volume))
	}
	return all, echoes, stop, nil
}

// measureLoads measures the rows that compare all: those of fio in memory, and on a disk
// the one with flushes.
func (l *clusterLab) measureLoads(ctx context.Context) error {
	var loads []load
	for _, ld := range clusterLoads() {
		if l.site == onTmpfs && l.wants(ld.String()) {
			loads = append(loads, ld)
		}
	}
	flushed := l.wants(flushedEach)
	if len(loads) == 0 && !flushed {
		return nil
	}
	stores, echoes, stop, err := l.contenders(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, ld := range loads {
		who := stores
		if e := echoes[ld.rw]; e != nil {
			who = append(slices.Clone(stores), e)
		}
		err := l.row(clusterRow{site: l.site, what: ld.String(), bs: ld.bs}, who, func(r *running) (figure, int64, error) { return l.fio(ctx, r, ld) })
		if err == nil && ld.rw == "write" {
			err = l.measureBareLong()
		}
		if err != nil {
			return err
		}
	}
	if !flushed {
		return nil
	}
	long := time.Duration(l.o.seconds) * time.Second
	err = l.row(clusterRow{site: l.site, what: flushedEach, bs: chunk}, stores, func(r *running) (figure, int64, error) {
		return flushingEach(ctx, r.uri, flushedDepth, long)
	})
	if err != nil || l.site != onDisk {
		return err
	}
	return l.measureBareFlushes(long)
}

// row measures one row.
func (l *clusterLab) row(row clusterRow, all []*running, measure func(r *running) (figure, int64, error)) error {
	figures, sent := map[string][]figure{}, map[string][]float64{}
	for round := range l.o.rounds {
		for _, r := range rotated(all, round) {
			var total int64
			before := loopbackBytes()
			f, err := charge(r, func() (f figure, n int64, err error) {
				f, n, err = measure(r)
				total = n
				return f, n, err
			})
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.name, row.what, err)
			}
			figures[r.name] = append(figures[r.name], f)
			sent[r.name] = append(sent[r.name], quotient(float64(loopbackBytes()-before), float64(total*int64(row.bs))))
		}
	}
	row.figures, row.sent = map[string]figure{}, map[string]float64{}
	for name, list := range figures {
		row.figures[name] = median(list)
		row.sent[name] = middle(sent[name], func(v float64) float64 { return v })
	}
	l.report.add(row)
	return nil
}
