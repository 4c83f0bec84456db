package main

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
)

// An outcome is how one row, or whatever else is measured, does by a number.
type outcome struct {
	where  string
	value  float64
	bounds []string // what keeps it from being better, as far as figures tell
}

// A target is one of the numbers that the project has set itself.
type target struct {
	what   string
	want   float64
	atMost bool   // otherwise at least
	unit   string // as a format of one value
	// of finds what the number is about. Bounds are computed for what want
	// asks for.
	of func(r *report, want float64) []outcome
}

// targets is the single place of all numbers but those for snapshots.
var targets = []target{
	{"Throughput, 4 KiB reads at depth 16 and more", 1.6, false, "%.2fx", throughputOf(inClear(small(reads, 16, 1<<20)))},
	{"Throughput, 4 KiB reads at depth 1", 1.4, false, "%.2fx", throughputOf(inClear(small(reads, 1, 1)))},
	{"Throughput, 4 KiB writes", 1.3, false, "%.2fx", throughputOf(inClear(small(writes, 1, 1<<20)))},
	{"Throughput, 64 KiB and 1 MiB", 1.1, false, "%.2fx", throughputOf(inClear(func(_ group, l load) bool { return l.bs > 4<<10 }))},
	{"Throughput, all over TLS", 1.5, false, "%.2fx", throughputOf(func(g group, _ load) bool { return g.transport == overTLS })},
	{"Throughput, every row", 1, false, "%.2fx", throughputOf(func(group, load) bool { return true })},
	{"p99 at depth 16 and more", 0.5, true, "%.2fx", p99Of(func(_ group, l load) bool { return l.depth >= 16 })},
	{"Server CPU per request, 4 KiB reads", 0.55, true, "%.2fx", cpuOf(small(reads, 1, 1<<20))},
	{"Server CPU per request, all others", 0.9, true, "%.2fx", cpuOf(func(g group, l load) bool { return !small(reads, 1, 1<<20)(g, l) })},
	{"Copy", 1.2, false, "%.2fx", (*report).copyOutcomes},
	{"Idle server, resident", 25, true, "%.1f MB", (*report).aloneOutcome},
	{"Idle connection", 20, true, "%.1f KiB", (*report).connOutcome},
	{"A layer that passes a request through", 50, true, "%.0f ns", (*report).layerOutcomes},
	{"Allocations of such a layer per request", 0, true, "%.0f", (*report).allocOutcomes},
}

// A filter chooses rows.
type filter func(g group, l load) bool

func reads(l load) bool  { return strings.Contains(l.rw, "read") }
func writes(l load) bool { return !reads(l) }

// small chooses 4 KiB rows of a direction and of depths.
func small(direction func(load) bool, from, to int) filter {
	return func(_ group, l load) bool {
		return l.bs == 4<<10 && direction(l) && l.depth >= from && l.depth <= to
	}
}

// inClear leaves out what has a number of its own: TLS.
func inClear(f filter) filter {
	return func(g group, l load) bool { return g.transport != overTLS && f(g, l) }
}

// rowsOf makes an outcome of every chosen row that can be compared.
func rowsOf(f filter, judge func(row, group, float64) outcome) func(*report, float64) []outcome {
	return func(r *report, want float64) (all []outcome) {
		for _, s := range r.sections {
			for _, row := range s.rows {
				if _, ok := row.figures[ours]; !ok || row.best(faster) == "" || !f(s.group, row.load) {
					continue
				}
				o := judge(row, s.group, want)
				o.where = s.group.title + ": " + row.load.String()
				all = append(all, o)
			}
		}
		return all
	}
}

func throughputOf(f filter) func(*report, float64) []outcome {
	return rowsOf(f, func(r row, g group, want float64) outcome {
		return outcome{value: r.ratios().value, bounds: throughputBounds(r, g, want, runtime.NumCPU())}
	})
}

func p99Of(f filter) func(*report, float64) []outcome {
	return rowsOf(f, func(r row, g group, want float64) outcome {
		peer := r.figures[r.best(sooner)]
		return outcome{value: quotient(float64(r.figures[ours].p99), float64(peer.p99)), bounds: p99Bounds(r, g, want, runtime.NumCPU())}
	})
}

func cpuOf(f filter) func(*report, float64) []outcome {
	return rowsOf(f, func(r row, _ group, want float64) outcome {
		peer := r.figures[r.best(cheaper)]
		return outcome{value: quotient(float64(r.figures[ours].cpu), float64(peer.cpu)), bounds: cpuBounds(r, want)}
	})
}

func (r *report) copyOutcomes(want float64) (all []outcome) {
	if r.copies == nil {
		return nil
	}
	for _, row := range r.copies.rows {
		if row.fastestPeer().took > 0 {
			all = append(all, outcome{where: row.c.title, value: row.ratio(), bounds: copyBounds(row, want, runtime.NumCPU())})
		}
	}
	return all
}

func (r *report) aloneOutcome(float64) []outcome {
	if r.idle == nil {
		return nil
	}
	return []outcome{{where: "one file, no connection", value: float64(r.idle.alone) / 1e6}}
}

func (r *report) connOutcome(float64) []outcome {
	if r.idle == nil {
		return nil
	}
	return []outcome{{where: fmt.Sprintf("%d connections", r.idle.conns), value: float64(r.idle.perConn) / 1024}}
}

func (r *report) layerOutcomes(float64) (all []outcome) {
	for _, c := range r.layers {
		all = append(all, outcome{where: c.name, value: float64(max(c.read, c.write).Nanoseconds())})
	}
	return all
}

func (r *report) allocOutcomes(float64) (all []outcome) {
	for _, c := range r.layers {
		all = append(all, outcome{where: c.name, value: float64(c.allocs)})
	}
	return all
}

// A verdict is how far a number is reached.
type verdict struct {
	target
	outcomes []outcome
	missed   []outcome
	worst    outcome
}

func (t target) verdict(r *report) verdict {
	v := verdict{target: t, outcomes: t.of(r, t.want)}
	for i, o := range v.outcomes {
		if i == 0 || t.worse(o.value, v.worst.value) {
			v.worst = o
		}
		if t.worse(o.value, t.want) {
			v.missed = append(v.missed, o)
		}
	}
	return v
}

// worse says whether a is worse than b in the sense of the number.
func (t target) worse(a, b float64) bool {
	if t.atMost {
		return a > b
	}
	return a < b
}

func (t target) goal() string {
	if t.atMost {
		return "≤ " + fmt.Sprintf(t.unit, t.want)
	}
	return "≥ " + fmt.Sprintf(t.unit, t.want)
}

// writeTargets writes which numbers are reached, and what bounds those that are
// not.
func (r *report) writeTargets(b *bytes.Buffer, targets []target, intro string) {
	fmt.Fprintf(b, "## Targets\n\n%s\n\n", intro)
	fmt.Fprint(b, "| number | target | reached in | worst | where | what bounds the worst |\n|---|---|---|---|---|---|\n")
	var missed []verdict
	for _, t := range targets {
		v := t.verdict(r)
		if len(v.outcomes) == 0 {
			fmt.Fprintf(b, "| %s | %s | not measured | - | - | - |\n", t.what, t.goal())
			continue
		}
		why := "-"
		if len(v.missed) > 0 {
			missed = append(missed, v)
			why = v.worst.reason()
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", t.what, t.goal(), v.share(),
			fmt.Sprintf(t.unit, v.worst.value), v.worst.where, why)
	}
	fmt.Fprintln(b)
	if len(missed) == 0 {
		return
	}
	fmt.Fprint(b, "Every row that misses its number:\n\n| number | row | figure | target | what bounds it |\n|---|---|---|---|---|\n")
	for _, v := range missed {
		for _, o := range v.missed {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", v.what, o.where, fmt.Sprintf(v.unit, o.value), v.goal(), o.reason())
		}
	}
	fmt.Fprintln(b)
}

// share is in how many rows a number is reached.
func (v verdict) share() string {
	s := fmt.Sprintf("%d of %d", len(v.outcomes)-len(v.missed), len(v.outcomes))
	if len(v.missed) == 0 {
		return "**" + s + "**"
	}
	return s
}

func (o outcome) reason() string {
	if len(o.bounds) == 0 {
		return "nothing that these figures show"
	}
	return strings.Join(o.bounds, "; ")
}
