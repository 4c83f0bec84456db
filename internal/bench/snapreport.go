package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A snapReport collects what was measured of snapshots.
type snapReport struct {
	rows    []snapRow
	changes map[string]*timing // by place
	engine  map[string]*engineFigures
	vm      *vmReport
}

// A snapRow holds the medians of one row by contender.
type snapRow struct {
	site, kind string
	snapshots  int
	figures    map[string]figure
	// space is what first writes took, over the data.
	space map[string]float64
}

func newSnapReport() *snapReport {
	return &snapReport{changes: map[string]*timing{}, engine: map[string]*engineFigures{}}
}

func newSnapRow(site, kind string, snapshots int, all map[string][]figure) snapRow {
	row := snapRow{site: site, kind: kind, snapshots: snapshots, figures: map[string]figure{}}
	for name, list := range all {
		row.figures[name] = median(list)
	}
	return row
}

// overRaw is the throughput of a contender over that of the raw file.
func (r snapRow) overRaw(name string) float64 {
	return quotient(r.figures[name].iops, r.figures[rawName].iops)
}

// first says that the row is about first writes.
func (r snapRow) first() bool {
	return r.kind == firstWrites || r.kind == flushedWrites || r.kind == crowdedWrites
}

func (r snapRow) title() string {
	if r.first() {
		return r.site + ": " + r.kind
	}
	return keptTitle(r.kind, r.snapshots)
}

func keptTitle(kind string, snapshots int) string {
	if snapshots == 1 {
		return kind + ", 1 snapshot"
	}
	return fmt.Sprintf("%s, %d snapshots", kind, snapshots)
}

func (s *snapReport) add(r snapRow) {
	s.rows = append(s.rows, r)
	fmt.Printf("%-44s", r.title())
	for _, name := range keeperNames(r.figures) {
		fmt.Printf("  %s %.2f %s", name, r.overRaw(name), micros(r.figures[name].cpu))
		if v, ok := r.space[name]; ok && name != rawName {
			fmt.Printf(" (%.2fx space)", v)
		}
	}
	fmt.Printf("  (R %.1f k/s)\n", r.figures[rawName].iops/1e3)
}

// writeSnapshots writes the page about snapshots and its picture.
func (r *report) writeSnapshots(dir string) error {
	var b bytes.Buffer
	s := r.snaps
	fmt.Fprintf(&b, "# Benchmarks of snapshots\n\nWritten by `make bench`; figures are never edited by hand. [Benchmarks](benchmarks.md) has those of serving.\n\n")
	fmt.Fprintf(&b, "%s, %d processors, %s. Disks of %d MiB, filled with random bytes. Requests are 4 KiB, %d in flight, over a Unix socket; the client is fio's nbd engine, on the same processors, but for the rows with a flush after every %d writes: fio cannot do that with requests in flight, so our own client writes %d at a time and flushes, for all servers. ",
		cpuModel(), runtime.NumCPU(), kernelRelease(), r.o.size, inFlight, inFlight, inFlight)
	fmt.Fprintf(&b, "Every figure is the median of %d rounds, at most %d on the disk; in each round all take their turn. The run took %s. Peers: %s.\n\n", r.o.rounds, diskRounds, r.took.Round(time.Second), strings.Join(versions(), ", "))
	fmt.Fprintf(&b, "**R** is the same server exporting a raw file, and every ratio is to R in the same row. *staged*, *redirect* and *copyout* are the policies of `snapshots()` with the default kind of store; *bitmap* is that kind. *qcow2 64 KiB* is a chain of overlays with clusters of 64 KiB, *qcow2 extended* one with clusters of 128 KiB and sub-clusters of 4 KiB (`extended_l2`), *qcow2 internal* has its snapshots inside one file; all three are served by qemu-nbd. *sparse file* has no snapshots: it is a raw file like R, but one that has no blocks when it is written, as any new place has none.\n\n")
	fmt.Fprintf(&b, "![Throughput over that of a raw file](benchmarks-snapshots.svg)\n\n")
	r.writeTargets(&b, snapTargets, "The numbers that the project has set itself for snapshots.")
	s.writeFirst(&b)
	s.writeKept(&b)
	s.writeChanges(&b)
	s.vm.write(&b)
	for _, site := range []string{onTmpfs, onDisk} {
		s.engine[site].write(&b, site)
	}
	if err := writePage(dir, "benchmarks-snapshots", b.Bytes()); err != nil {
		return err
	}
	return draw(filepath.Join(dir, "benchmarks-snapshots.svg"), "Throughput over that of a raw file", s.bars())
}

// bars has the rows that compare all, with the fewest and the most snapshots
// that all can have.
func (s *snapReport) bars() (all []bar) {
	for _, r := range s.rows {
		some := r.kind == firstWrites || r.kind == flushedWrites ||
			r.kind != crowdedWrites && r.kind != readOldest && (r.snapshots == kept[0] || r.snapshots == longestChain)
		for _, name := range keeperNames(r.figures) {
			if name != rawName && name != sparse.name && some {
				all = append(all, bar{r.title() + ": " + name, r.overRaw(name)})
			}
		}
	}
	return all
}

// writeFirst writes a table for each row of first writes.
func (s *snapReport) writeFirst(b *bytes.Buffer) {
	for _, r := range s.rows {
		if !r.first() {
			continue
		}
		fmt.Fprintf(b, "## %s, %s\n\n", strings.ToUpper(r.kind[:1])+r.kind[1:], r.site)
		fmt.Fprint(b, "In every round each contender begins with new snapshots. *Space* is what its files grew by, over the data written, right after a flush: *staged* has by then both the new data and some of the copies.\n\n")
		fmt.Fprint(b, "| | over R | throughput | p50 | p99 | CPU/request | space |\n|---|---|---|---|---|---|---|\n")
		for _, name := range keeperNames(r.figures) {
			f, space := r.figures[name], fmt.Sprintf("%.2fx", r.space[name])
			if name == rawName {
				space = "-"
			}
			fmt.Fprintf(b, "| %s | **%.2f** | %s | %s | %s | %s | %s |\n", name, r.overRaw(name), throughput(load{bs: chunk}, f), micros(f.p50), micros(f.p99), micros(f.cpu), space)
		}
		fmt.Fprintln(b)
	}
}

// writeKept writes a table for each kind of rows over the number of snapshots.
func (s *snapReport) writeKept(b *bytes.Buffer) {
	for _, kind := range []string{readDisk, readOldest, laterWrites} {
		var rows []snapRow
		for _, r := range s.rows {
			if r.kind == kind {
				rows = append(rows, r)
			}
		}
		if len(rows) == 0 {
			continue
		}
		names := keeperNames(rows[0].figures)
		fmt.Fprintf(b, "## %s, by number of snapshots\n\nOver R, throughput and CPU time of the server for a request. As many first writes as above are spread over all snapshots; the disks lie in memory.\n\n| snapshots | %s |\n|---|%s\n",
			strings.ToUpper(kind[:1])+kind[1:], strings.Join(names, " | "), strings.Repeat("---|", len(names)))
		for _, r := range rows {
			fmt.Fprintf(b, "| %d |", r.snapshots)
			for _, name := range names {
				f, ok := r.figures[name]
				if !ok {
					fmt.Fprint(b, " - |")
					continue
				}
				fmt.Fprintf(b, " **%.2f** %s %s |", r.overRaw(name), throughput(load{bs: chunk}, f), micros(f.cpu))
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
}

// writeChanges writes how long commands take.
func (s *snapReport) writeChanges(b *bytes.Buffer) {
	for _, site := range []string{onTmpfs, onDisk} {
		t := s.changes[site]
		if t == nil {
			continue
		}
		names := []string{staged.name, redirect.name, copyOut.name, internals.name, overlayCreate}
		fmt.Fprintf(b, "## Create, roll back, delete, %s\n\nMilliseconds from the start of the command to its end, and in brackets until the background work was done too, to within some of them. The disk has one snapshot and has been written as above. Ours are made while the disk is served, those of qemu-img while it is not.\n\n| | %s |\n|---|%s\n",
			site, strings.Join(names, " | "), strings.Repeat("---|", len(names)))
		for _, c := range changes {
			fmt.Fprintf(b, "| %s |", c.what)
			for _, name := range names {
				key := c.what + " " + name
				if took, ok := t.returned[key]; !ok {
					fmt.Fprint(b, " - |")
				} else {
					fmt.Fprintf(b, " %.1f (%.0f) |", millis(took), millis(t.ended[key]))
				}
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// write writes what was measured within the process.
func (e *engineFigures) write(b *bytes.Buffer, site string) {
	if e == nil {
		return
	}
	fmt.Fprintf(b, "## The engine by itself, %s\n\nWithin one process, the default kind of store in a file, an origin that reads as zeros.\n\n| | |\n|---|---|\n", site)
	for _, row := range [][2]string{
		{"a block and fdatasync", fmt.Sprintf("%.3f ms", millis(e.commit))},
		{"take a snapshot of 1 GiB", fmt.Sprintf("%.3f ms", millis(e.small))},
		{"... of 64 TiB", fmt.Sprintf("%.3f ms", millis(e.large))},
		{fmt.Sprintf("... of 1 GiB with %d snapshots", e.snapshotsMany), fmt.Sprintf("%.3f ms", millis(e.many))},
		{fmt.Sprintf("longest of %d writes in flight during that, p99 of snapshots", inFlight), fmt.Sprintf("%.2f ms", millis(e.pause.create.write))},
		{"... during a flush, and in times with neither", fmt.Sprintf("%.2f ms, %.2f ms", millis(e.pause.flush.write), millis(e.pause.none.write))},
		{"longest time in which none of them ends, p99 of snapshots", fmt.Sprintf("%.2f ms", millis(e.pause.create.standstill))},
		{"... during a flush, and in times with neither", fmt.Sprintf("%.2f ms, %.2f ms", millis(e.pause.flush.standstill), millis(e.pause.none.standstill))},
		{fmt.Sprintf("delete a snapshot with %d exceptions: return", e.deleted), fmt.Sprintf("%.2f ms", millis(e.deleting))},
		{"... in the background", fmt.Sprintf("%.0f k exceptions/s", e.rate/1e3)},
		{"... with six times as many in the store", fmt.Sprintf("%.2fx the time", e.tree)},
		{fmt.Sprintf("... %d snapshots in one pass, against one with as many exceptions", batchSize), fmt.Sprintf("%.2fx the time", e.batch)},
		{"p99 of reads and writes meanwhile", fmt.Sprintf("%.2fx", e.latency)},
		{"suspend meanwhile", fmt.Sprintf("%.1f ms", millis(e.suspending))},
		{fmt.Sprintf("open after a crash with %d exceptions", e.exceptions), fmt.Sprintf("%.2f s", e.opening.Seconds())},
		{"memory for each of them", fmt.Sprintf("%.0f B", e.memory)},
		{"read one of them that holds no data", fmt.Sprintf("%d ns", e.lookup.Nanoseconds())},
		{"written for 32 first writes and a flush, over the data", fmt.Sprintf("%.2fx", e.amplification)},
		{"flushes of the store for each of a client", fmt.Sprintf("%.2f", e.barriers)},
		{"a write for which the lock changes hands while snapshots are being deleted: median", fmt.Sprintf("%.1f ms", millis(e.handOver))},
		{"... p99", fmt.Sprintf("%.1f ms", millis(e.slowHandOver))},
		{"... the same with a lock within the process: median", fmt.Sprintf("%.1f ms", millis(e.localHandOver))},
		{"... p99", fmt.Sprintf("%.1f ms", millis(e.slowLocalHandOver))},
		{fmt.Sprintf("... of %d, made while there was something to delete", 2*handOvers), fmt.Sprint(e.busyHandOvers)},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", row[0], row[1])
	}
	for i, r := range e.refresh {
		fmt.Fprintf(b, "| learn of %d commits of another engine, and with a store ten times as large | %.2f ms, %.2f ms |\n", r.commits, millis(r.took), millis(e.refreshLarge[i].took))
	}
	fmt.Fprintln(b)
}
