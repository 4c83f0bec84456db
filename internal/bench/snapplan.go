package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// kept says with how many snapshots disks are measured that have been written
// between.
var kept = []int{1, 10, 50, 1000}

// crowd is how many snapshots share what copyout copies.
const crowd = 64

// keepers is the plan of rows that compare all.
func keepers() []keeper {
	return installed([]keeper{rawFile, staged, redirect, copyOut, overlays, subclusters, internals})
}

// diskRounds bounds the rounds on a disk, where a round takes long.
const diskRounds = 3

// alone are contenders with one snapshot each, and bitmap and a sparse file with
// them. Internal snapshots begin with a copy of the disk, which takes too long on
// one.
func alone(site string) (all []contender) {
	for _, k := range append(keepers(), bitmap, sparse) {
		if site != onDisk || k.name != internals.name {
			all = append(all, contender{k, 1})
		}
	}
	return all
}

// crowds are contenders that share one copy between many.
func crowds() []contender {
	return []contender{{rawFile, 1}, {copyOut, 1}, {copyOut, crowd}, {bitmap, 1}, {bitmap, crowd}}
}

// runSnapshots compares ways to have snapshots.
func runSnapshots(ctx context.Context, o options) (*report, error) {
	report := newReport(o)
	report.snaps = newSnapReport()
	sites := []string{onTmpfs}
	dirs := map[string]string{onTmpfs: o.dir}
	if o.disk != "" {
		if err := os.MkdirAll(o.disk, 0o755); err != nil {
			return nil, err
		}
		dir, err := os.MkdirTemp(o.disk, "bench-")
		if err != nil {
			return nil, err
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		sites, dirs[onDisk] = append(sites, onDisk), dir
	}
	run := o.dir
	for i, site := range sites {
		start := time.Now()
		o.dir = dirs[site]
		lab, err := newLab(o)
		if err != nil {
			return nil, err
		}
		// The names of sockets must be short, so those stay in memory.
		lab.run, lab.count = run, i*1000
		if site == onDisk {
			lab.o.rounds = min(o.rounds, diskRounds)
		}
		if err := (&snapLab{lab, site, report.snaps}).measureAll(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", site, err)
		}
		fmt.Printf("%s: all of it took %s\n", site, time.Since(start).Round(time.Second))
	}
	o.dir = run
	return report, report.snaps.measureVM(ctx, o, dirs[onDisk])
}

func (l *snapLab) measureAll(ctx context.Context) error {
	for _, kind := range []string{firstWrites, flushedWrites} {
		if err := l.measureFirst(ctx, kind, alone(l.site)); err != nil {
			return err
		}
	}
	if err := l.measureFirst(ctx, crowdedWrites, crowds()); err != nil {
		return err
	}
	if l.site == onTmpfs {
		for _, n := range kept {
			if err := l.measureKept(ctx, n, keepers()); err != nil {
				return err
			}
		}
	}
	if err := l.measureChanges(ctx); err != nil {
		return err
	}
	return l.measureEngine(ctx)
}

// keeperNames are those in the order of the plan.
func keeperNames(figures map[string]figure) (names []string) {
	for _, c := range slices.Concat(alone(onTmpfs), crowds()) {
		if _, ok := figures[c.label()]; ok && !slices.Contains(names, c.label()) {
			names = append(names, c.label())
		}
	}
	return names
}
