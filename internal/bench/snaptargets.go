package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"
)

// snapTargets is the single place of the numbers for snapshots.
var snapTargets = []target{
	{"Reads of the disk, copyout, any number of snapshots", 0.98, false, "%.2f R", over(rawName, onTmpfs, []string{copyOut.name}, readDisk)},
	{"Reads of disk and snapshots, staged and redirect", 0.95, false, "%.2f R", over(rawName, onTmpfs, redirecting, readDisk, readOldest)},
	{"The same, 1000 snapshots over 1", 0.95, false, "%.2fx", flatness},
	{"Later writes", 0.97, false, "%.2f R", over(rawName, onTmpfs, []string{staged.name, redirect.name, copyOut.name}, laterWrites)},
	{"First writes, staged and redirect, tmpfs", 0.95, false, "%.2f R", over(rawName, onTmpfs, redirecting, firstWrites)},
	{"The same over qcow2 with extended L2", 1, false, "%.2fx", over(subclusters.name, onTmpfs, redirecting, firstWrites)},
	{"The same over qcow2 with 64 KiB", 2.5, false, "%.2fx", over(overlays.name, onTmpfs, redirecting, firstWrites)},
	{"The same over internal snapshots of qcow2", 5, false, "%.2fx", over(internals.name, onTmpfs, redirecting, firstWrites)},
	{"First writes, staged and redirect, disk", 1.5, false, "%.2f R", over(rawName, onDisk, redirecting, firstWrites)},
	{"The same, a flush after every 32, tmpfs", 0.8, false, "%.2f R", over(rawName, onTmpfs, redirecting, flushedWrites)},
	{"The same, a flush after every 32, disk", 1.3, false, "%.2f R", over(rawName, onDisk, redirecting, flushedWrites)},
	{"First writes, copyout, tmpfs", 0.45, false, "%.2f R", over(rawName, onTmpfs, []string{copyOut.name, bitmap.name}, firstWrites)},
	{"First writes, copyout, disk, over R with a flush after every 32", 0.8, false, "%.2f R", copyingOnDisk},
	{"Copyout, 64 snapshots over 1", 0.95, false, "%.2fx", crowding},
	{"Space for first writes, over the data", 1.05, true, "%.2fx", spaceOf},
	{"Written for 32 first writes and a flush, over the data", 1.1, true, "%.2fx", engineOf("flush", func(e *engineFigures) float64 { return e.amplification })},
	{"Flushes of the store for each of a client", 1, true, "%.2f", engineOf("flush", func(e *engineFigures) float64 { return e.barriers })},
	{"Create, beyond 1.3 times a commit", 1, true, "%.2f ms", engineOf("create", func(e *engineFigures) float64 { return millis(e.small) - 1.3*millis(e.commit) })},
	{"Create, 64 TiB over 1 GiB", sameTime, true, "%.2fx", engineOf("create", func(e *engineFigures) float64 { return quotient(float64(e.large), float64(e.small)) })},
	{"Create, 10 000 snapshots over none", sameTime, true, "%.2fx", engineOf("create", func(e *engineFigures) float64 { return quotient(float64(e.many), float64(e.small)) })},
	{"Pause of a write by create, p99, beyond that by a flush", 5, true, "%.1f ms", engineOf("pause", func(e *engineFigures) float64 { return millis(e.pause.beyond().write) })},
	{"Pause of all writes by create, p99, beyond that by a flush", 5, true, "%.1f ms", engineOf("pause", func(e *engineFigures) float64 { return millis(e.pause.beyond().standstill) })},
	{"Delete returns", 5, true, "%.1f ms", engineOf("delete", func(e *engineFigures) float64 { return millis(e.deleting) })},
	{"Delete in the background, thousand exceptions a second", 500, false, "%.0f k/s", engineOf("delete", func(e *engineFigures) float64 { return e.rate / 1e3 })},
	{"Delete, a store six times as large", sameTime, true, "%.2fx", engineOf("delete", func(e *engineFigures) float64 { return e.tree })},
	{"Delete, 100 in one pass over one as large", 1.3, true, "%.2fx", engineOf("delete", func(e *engineFigures) float64 { return e.batch })},
	{"p99 of requests during delete", 1.5, true, "%.2fx", engineOf("latency", func(e *engineFigures) float64 { return e.latency })},
	{"Suspend during delete", 20, true, "%.1f ms", engineOf("latency", func(e *engineFigures) float64 { return millis(e.suspending) })},
	{"Open after a crash, 10 million exceptions", 0.5, true, "%.2f s", opening},
	{"Memory for each exception", 32, true, "%.0f B", engineOf("open", func(e *engineFigures) float64 { return e.memory })},
	{"Lookup, 10 million exceptions", 0.5, true, "%.2f µs", engineOf("look up", func(e *engineFigures) float64 { return float64(e.lookup) / 1e3 })},
	{"Lock changes hands, median", 10, true, "%.1f ms", engineOf("lock", func(e *engineFigures) float64 { return millis(e.handOver) })},
	{"The same within a process", 10, true, "%.1f ms", engineOf("lock", func(e *engineFigures) float64 { return millis(e.localHandOver) })},
	{"Learn of 1000 commits of another engine over 100, for each", sameTime, true, "%.2fx", engineOf("refresh", (*engineFigures).proportion)},
	{"The same, a store ten times as large over one", sameTime, true, "%.2fx", engineOf("refresh", (*engineFigures).growth)},
}

// sameTime is how much two times that should be the same may differ.
const sameTime = 1.3

// redirecting are the policies that redirect the first write.
var redirecting = []string{staged.name, redirect.name}

// over makes an outcome of every row of the kinds in a place, for each of names,
// against another contender.
func over(base, site string, names []string, kinds ...string) func(*report, float64) []outcome {
	return func(r *report, want float64) (all []outcome) {
		for _, row := range r.snapRows() {
			if row.site != site || !slices.Contains(kinds, row.kind) || row.figures[base].iops == 0 {
				continue
			}
			for _, name := range names {
				f, ok := row.figures[name]
				if !ok {
					continue
				}
				all = append(all, outcome{where: row.title() + ": " + name, value: f.iops / row.figures[base].iops, bounds: r.snaps.reasons(row, name, row.bounds(name, base, want)...)})
			}
		}
		return all
	}
}

func (r *report) snapRows() []snapRow {
	if r.snaps == nil {
		return nil
	}
	return r.snaps.rows
}

// bounds tells why a contender does not have want times the throughput of base.
func (r snapRow) bounds(name, base string, want float64) (all []string) {
	us, peer := r.figures[name], r.figures[base]
	// fio has one thread, our own client several.
	if us.busy > 0 && us.iops > 0 && peer.iops > 0 && r.kind != flushedWrites {
		if ceiling := us.iops / us.busy / peer.iops; ceiling < want || us.busy >= usedUp {
			all = append(all, fmt.Sprintf("client %.0f %% busy: %.2fx if it never waited", us.busy*100, ceiling))
		}
	}
	if limit := quotient(r.figures[sparse.name].iops, peer.iops); base == rawName && limit > 0 && limit < want {
		all = append(all, fmt.Sprintf("a raw file whose blocks the file system still has to find: %.2f R", limit))
	}
	if raw := r.figures[rawName]; raw.cpu > 0 && us.cpu > raw.cpu {
		all = append(all, fmt.Sprintf("the server uses %s for a request, with a raw file %s", micros(us.cpu), micros(raw.cpu)))
	}
	return all
}

// flatness compares the ratio to R with most snapshots to that with one.
func flatness(r *report, _ float64) (all []outcome) {
	first, last := kept[0], kept[len(kept)-1]
	for _, a := range r.snapRows() {
		for _, b := range r.snapRows() {
			if a.kind != b.kind || a.snapshots != first || b.snapshots != last {
				continue
			}
			for _, name := range redirecting {
				if one, many := a.overRaw(name), b.overRaw(name); one > 0 && many > 0 && a.kind != laterWrites {
					all = append(all, outcome{
						where: a.kind + ": " + name, value: many / one,
						bounds: r.snaps.reasons(b, name, fmt.Sprintf("the server uses %s for a request, with one snapshot %s", micros(b.figures[name].cpu), micros(a.figures[name].cpu))),
					})
				}
			}
		}
	}
	return all
}

// copyingOnDisk compares copyout, which cannot but flush, with a raw file that
// is flushed.
func copyingOnDisk(r *report, _ float64) (all []outcome) {
	for _, flushed := range r.snapRows() {
		for _, row := range r.snapRows() {
			if flushed.site != onDisk || flushed.kind != flushedWrites || row.site != onDisk || row.kind != firstWrites {
				continue
			}
			for _, name := range []string{copyOut.name, bitmap.name} {
				if f, ok := row.figures[name]; ok && flushed.figures[rawName].iops > 0 {
					all = append(all, outcome{
						where: name, value: f.iops / flushed.figures[rawName].iops,
						bounds: r.snaps.reasons(row, name, fmt.Sprintf("the server uses %s for a request, with a raw file and flushes %s", micros(f.cpu), micros(flushed.figures[rawName].cpu))),
					})
				}
			}
		}
	}
	return all
}

// crowding compares copyout for many snapshots with that for one.
func crowding(r *report, _ float64) (all []outcome) {
	for _, row := range r.snapRows() {
		for _, k := range []keeper{copyOut, bitmap} {
			one, many := contender{k, 1}.label(), contender{k, crowd}.label()
			if row.kind == crowdedWrites && row.figures[one].iops > 0 && row.figures[many].iops > 0 {
				all = append(all, outcome{
					where: row.site + ": " + k.name, value: row.figures[many].iops / row.figures[one].iops,
					bounds: r.snaps.reasons(row, many, fmt.Sprintf("the server uses %s for a request, with one snapshot %s", micros(row.figures[many].cpu), micros(row.figures[one].cpu))),
				})
			}
		}
	}
	return all
}

func spaceOf(r *report, _ float64) (all []outcome) {
	for _, row := range r.snapRows() {
		for _, name := range []string{redirect.name, copyOut.name, bitmap.name} {
			if v, ok := row.space[name]; ok && row.kind == firstWrites {
				all = append(all, outcome{where: row.site + ": " + name, value: v, bounds: r.snaps.spaceReasons(row.site)})
			}
		}
	}
	return all
}

// spaceReasons tells what is written beside data.
func (s *snapReport) spaceReasons(site string) []string {
	if e := s.engine[site]; e != nil && e.amplification > 0 {
		return []string{fmt.Sprintf("with a flush after every %d writes %.2fx is written by the default kind, the rest is allocated ahead", inFlight, e.amplification)}
	}
	return nil
}

// engineOf makes outcomes of a figure, in all places where it is measured; its
// bounds are how the time of that measurement was spent.
func engineOf(what string, value func(*engineFigures) float64) func(*report, float64) []outcome {
	return func(r *report, _ float64) (all []outcome) {
		if r.snaps == nil {
			return nil
		}
		for _, site := range []string{onTmpfs, onDisk} {
			if e := r.snaps.engine[site]; e != nil {
				if v := value(e); v != 0 {
					all = append(all, outcome{where: site, value: v, bounds: e.reasons(what)})
				}
			}
		}
		return all
	}
}

// reasons tell how the time of a measurement was spent.
func (e *engineFigures) reasons(what string) []string {
	var flush, account string
	if e.commit > 0 {
		flush = fmt.Sprintf("a block and a flush by themselves take %.3f ms", millis(e.commit))
	}
	if s := e.spent[what]; s != nil {
		account = s.account(runtime.NumCPU())
	}
	var pause string
	if what == "pause" {
		pause = e.pause.reason()
	}
	return said([]string{pause, account, flush})
}

// proportion is the time for each of the most foreign commits over that of a
// tenth of them.
func (e *engineFigures) proportion() float64 {
	n := len(e.refresh)
	if n < 2 {
		return 0
	}
	return quotient(e.refresh[n-1].each(), e.refresh[n-2].each())
}

// growth is the time for the most foreign commits with the larger store over
// that with the smaller one.
func (e *engineFigures) growth() float64 {
	n := len(e.refresh)
	if n == 0 || len(e.refreshLarge) != n {
		return 0
	}
	return quotient(float64(e.refreshLarge[n-1].took), float64(e.refresh[n-1].took))
}

// opening scales the time to what it would be with the exceptions that the
// number is about, if there were others.
func opening(r *report, want float64) []outcome {
	return engineOf("open", func(e *engineFigures) float64 {
		const exceptions = 10_000_000
		if e.exceptions == 0 {
			return 0
		}
		return (e.opening * time.Duration(exceptions) / time.Duration(e.exceptions)).Seconds()
	})(r, want)
}
