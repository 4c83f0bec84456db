package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report collects what was measured.
type report struct {
	o        options
	sections []*section
	copies   *copySection
	idle     *idle
	layers   []passCost
	snaps    *snapReport
	cluster  *clusterReport
	took     time.Duration
}

// A section is the rows of a group.
type section struct {
	group group
	rows  []row
}

// A row holds the medians for one load, by server.
type row struct {
	load    load
	figures map[string]figure
}

type copySection struct{ rows []copyRow }

type copyRow struct {
	c     copyCase
	times map[string]copyTime
}

// A copyTime is how long a copy took, and the processor time that the tool and
// the servers used meanwhile.
type copyTime struct{ took, tool, servers time.Duration }

const ours = "strata"

func newReport(o options) *report { return &report{o: o} }

func (r *report) section(g group) *section {
	s := &section{group: g}
	r.sections = append(r.sections, s)
	return s
}

func (r *report) copySection() *copySection {
	r.copies = &copySection{}
	return r.copies
}

func (s *section) add(ld load, all map[string][]figure) {
	figures := map[string]figure{}
	for name, list := range all {
		figures[name] = median(list)
	}
	r := row{ld, figures}
	s.rows = append(s.rows, r)
	q := r.ratios()
	fmt.Printf("%-22s %-34s %8.0f/s  %sx throughput  %sx p99  %sx CPU  (best peer: %s)\n",
		s.group.title, ld, figures[ours].iops, q.throughput, q.p99, q.cpu, q.peer)
}

func (s *copySection) add(c copyCase, all map[string][]copyTime) {
	row := copyRow{c, map[string]copyTime{}}
	for name, list := range all {
		slices.SortFunc(list, func(a, b copyTime) int { return cmp.Compare(a.took, b.took) })
		row.times[name] = list[len(list)/2]
	}
	s.rows = append(s.rows, row)
	fmt.Printf("%-22s %-34s %.2fx %v\n", "Copy", c.title, row.ratio(), row.times)
}

// ratios compare us with the best peer in each respect.
type ratios struct {
	peer                 string // the fastest
	value                float64
	throughput, p99, cpu string
}

// ratios are figures of ours over those of the best peer of the row: the one
// with the highest throughput, the lowest p99, the least CPU.
func (r row) ratios() ratios {
	peer := r.best(faster)
	if peer == "" {
		return ratios{"none", 0, "-", "-", "-"}
	}
	us := r.figures[ours]
	value := us.iops / r.figures[peer].iops
	return ratios{
		peer: peer, value: value, throughput: ratio(us.iops, r.figures[peer].iops),
		p99: ratio(float64(us.p99), float64(r.figures[r.best(sooner)].p99)),
		cpu: ratio(float64(us.cpu), float64(r.figures[r.best(cheaper)].cpu)),
	}
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

// best returns the peer that beats the others, or "".
func (r row) best(better func(a, b figure) bool) string {
	winner := ""
	for _, name := range slices.Sorted(maps.Keys(r.figures)) {
		if name == ours || name == limitName {
			continue
		}
		if winner == "" || better(r.figures[name], r.figures[winner]) {
			winner = name
		}
	}
	return winner
}

// write writes the report and its picture.
func (r *report) write(dir string) error {
	var b bytes.Buffer
	r.head(&b)
	r.writeTargets(&b, targets, "The numbers that the project has set itself, against the best peer of each row where they are ratios. What bounds a row is computed from the figures below; how, the notes tell.")
	for _, s := range r.sections {
		s.write(&b)
	}
	r.copies.write(&b)
	r.idle.write(&b)
	r.writeLayers(&b)
	if err := writePage(dir, "benchmarks", b.Bytes()); err != nil {
		return err
	}
	return draw(filepath.Join(dir, "benchmarks.svg"), "Throughput over that of the best peer", r.bars())
}

// writePage writes a page of figures with its notes, if there are any.
func writePage(dir, name string, page []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if notes, err := os.ReadFile(filepath.Join(dir, name+"-notes.md")); err == nil {
		page = append(page, notes...)
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), page, 0o644)
}

func (r *report) head(b *bytes.Buffer) {
	fmt.Fprintf(b, "# Benchmarks\n\nWritten by `make bench`; figures are never edited by hand. What they mean and why some are as they are: [the notes](benchmarks-notes.md), repeated at the end.\n\n")
	fmt.Fprintf(b, "%s, %d processors, %s. Disks of %d MiB %s, filled with random bytes. ",
		cpuModel(), runtime.NumCPU(), kernelRelease(), r.o.size, r.o.where)
	fmt.Fprintf(b, "fio's nbd engine (libnbd) is the client, on the same processors. Every figure is the median of %d rounds of %d s; in each round all servers take their turn. The run took %s.\n\n",
		r.o.rounds, r.o.seconds, r.took.Round(time.Second))
	if control, err := os.ReadFile(congestionPath); err == nil {
		fmt.Fprintf(b, "TCP has the congestion control %s. ", strings.TrimSpace(string(control)))
	}
	fmt.Fprintf(b, "Peers: %s.\n\n", strings.Join(versions(), ", "))
	fmt.Fprintf(b, "Ratios are Strata's figure over that of the best peer in the same row and respect: above 1 is better for throughput, below 1 for p99 and for the server's CPU time per request. ")
	fmt.Fprintf(b, "The *limit* is a bare echo: messages of the same sizes over the same socket with nothing done to them, with a client of its own that is cheaper than fio, in %d of the rounds. ", min(r.o.limitRounds, r.o.rounds))
	fmt.Fprintf(b, "*Limit CPU* is what its server uses for a request. *Client busy* is in percent of a processor for each connection while Strata is measured; fio has one thread for each, `strata bench` several.\n\n")
	fmt.Fprintf(b, "![Throughput over that of the best peer](benchmarks.svg)\n\n")
}

func (s *section) write(b *bytes.Buffer) {
	if len(s.rows) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s\n\n%s\n\n", s.group.title, s.group.what)
	fmt.Fprintf(b, "| load | throughput ratio | p99 ratio | CPU ratio | Strata | p50 | p99 | CPU/request | client busy | best peer | its throughput | limit | limit CPU |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range s.rows {
		us, q := r.figures[ours], r.ratios()
		limit, limitCPU := "-", "-"
		if f, ok := r.figures[limitName]; ok {
			limit, limitCPU = throughput(r.load, f), micros(f.cpu)
		}
		fmt.Fprintf(b, "| %s | **%s** | %s | %s | %s | %s | %s | %s | %.0f %% | %s | %s | %s | %s |\n", r.load, q.throughput, q.p99, q.cpu,
			throughput(r.load, us), micros(us.p50), micros(us.p99), micros(us.cpu), us.busy*100, q.peer, throughput(r.load, r.figures[q.peer]), limit, limitCPU)
	}
	fmt.Fprintf(b, "\nAll servers, throughput and CPU time per request; peak memory over the whole section:\n\n")
	s.writeAll(b)
}

// writeAll writes the figures of every server.
func (s *section) writeAll(b *bytes.Buffer) {
	var names []string
	for _, sv := range s.group.servers {
		if _, ok := s.rows[0].figures[sv.name]; ok {
			names = append(names, sv.name)
		}
	}
	fmt.Fprintf(b, "| load | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	peak := map[string]int64{}
	for _, r := range s.rows {
		fmt.Fprintf(b, "| %s |", r.load)
		for _, n := range names {
			f := r.figures[n]
			peak[n] = max(peak[n], f.peak)
			fmt.Fprintf(b, " %s, %s |", throughput(r.load, f), micros(f.cpu))
		}
		fmt.Fprintln(b)
	}
	fmt.Fprint(b, "| peak memory |")
	for _, n := range names {
		fmt.Fprintf(b, " %d MiB |", peak[n]>>20)
	}
	fmt.Fprint(b, "\n\n")
}

func (s *copySection) write(b *bytes.Buffer) {
	if s == nil || len(s.rows) == 0 {
		return
	}
	fmt.Fprintf(b, "## Copy\n\nAn image of %d MiB, flushed at the end and compared after each copy; the sparse one holds data in one MiB of eight. The server at either end is the same for all tools, nbdkit's file plugin. Seconds; the ratio is the time of the fastest peer over ours. The *limit* is Strata moving as much between a server and nothing, which is half of the work.\n\n", copySize)
	fmt.Fprintf(b, "| copy | ratio | strata | nbdcopy | qemu-img | limit |\n|---|---|---|---|---|---|\n")
	for _, r := range s.rows {
		fmt.Fprintf(b, "| %s | **%.2f** |", r.c.title, r.ratio())
		for _, tool := range copiers {
			fmt.Fprintf(b, " %.3f |", r.times[tool.name].took.Seconds())
		}
		if limit, ok := r.times[limitName]; ok {
			fmt.Fprintf(b, " %.3f |\n", limit.took.Seconds())
		} else {
			fmt.Fprintln(b, " - |")
		}
	}
	fmt.Fprintln(b)
}

// write writes what an idle server costs.
func (i *idle) write(b *bytes.Buffer) {
	if i == nil {
		return
	}
	fmt.Fprintf(b, "## Idle\n\nA server with one file and no connection has %.1f MB resident. Each of %d connections that have made a request and wait adds %.1f KiB, the kernel's share not counted.\n\n",
		float64(i.alone)/1e6, i.conns, float64(i.perConn)/1024)
}

// writeLayers writes what layers cost.
func (r *report) writeLayers(b *bytes.Buffer) {
	if len(r.layers) == 0 {
		return
	}
	fmt.Fprint(b, "## Pass-through layers\n\nWhat a layer adds to a request that it passes through: a request of 512 bytes to the source `null` with the layer over it, less the same without. Within a process, medians.\n\n")
	fmt.Fprint(b, "| layer | read | write | allocations |\n|---|---|---|---|\n")
	for _, c := range r.layers {
		fmt.Fprintf(b, "| %s | %d ns | %d ns | %d |\n", c.name, c.read.Nanoseconds(), c.write.Nanoseconds(), c.allocs)
	}
	fmt.Fprintln(b)
}

// ratio is how many times faster than the fastest peer we are.
func (r copyRow) ratio() float64 {
	return quotient(float64(r.fastestPeer().took), float64(r.times[ours].took))
}

func (r copyRow) fastestPeer() (fastest copyTime) {
	for name, t := range r.times {
		if name != ours && name != limitName && (fastest.took == 0 || t.took < fastest.took) {
			fastest = t
		}
	}
	return fastest
}

func throughput(ld load, f figure) string {
	if ld.bs >= 64<<10 {
		return fmt.Sprintf("%.2f GB/s", f.iops*float64(ld.bs)/1e9)
	}
	return fmt.Sprintf("%.1f k/s", f.iops/1e3)
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d)/1e3) }

// versions are those of the peers that are installed.
func versions() (all []string) {
	for _, args := range [][]string{{"nbdkit", "--version"}, {"qemu-nbd", "--version"}, {"nbd-server", "-V"}, {"nbdcopy", "--version"}, {"fio", "--version"}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil && len(out) == 0 {
			continue
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		all = append(all, line)
	}
	return all
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernelRelease() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	release, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-")
	return "Linux " + release
}
