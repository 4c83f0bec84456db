// Command bench compares Strata with the other NBD servers and copy tools that
// are installed, all in one interleaved run, and writes docs/benchmarks.md and
// its picture. It is what "make bench" runs.
//
// Every row is measured in rounds: first all servers once, then all again, so
// that a machine whose speed drifts is equally unfair to each. A figure is the
// median of its rounds.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/strata-storage/strata/internal/bench/vm"
)

// options of a run.
type options struct {
	strata string // the program under test
	dir    string // where disk images lie
	disk   string // a folder on a disk, for the rows that are about one
	where  string // dir in words
	out    string // folder of the report
	rounds int
	// limitRounds is in how many of them the limit is measured: it takes
	// part in no ratio of speed, and a run has to end.
	limitRounds int
	seconds     int // of one measurement
	size        int // MiB of the disks
	exceptions  int // of a large store
	only        *regexp.Regexp
}

// A part of a run has a report of its own.
type part struct {
	name string
	// seconds and size are used unless others are given.
	seconds, size int
	run           func(ctx context.Context, o options) (*report, error)
	write         func(r *report, dir string) error
}

var parts = []part{
	{"serve", 1, 256, runServe, (*report).write},
	{"snapshots", 1, 1024, runSnapshots, (*report).writeSnapshots},
	{"cluster", 1, 256, runCluster, (*report).writeCluster},
}

func main() {
	if os.Getpid() == 1 {
		vm.Init()
	}
	if len(os.Args) > 3 && os.Args[1] == echoCommand {
		fmt.Fprintln(os.Stderr, "bench: echo:", serveEcho(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == gatewayCommand {
		fmt.Fprintln(os.Stderr, "bench: echo:", serveEchoGateway(os.Args[2:]))
		os.Exit(1)
	}
	if code, done := isolate(); done {
		os.Exit(code)
	}
	var o options
	only := flag.String("only", "", "measure the rows that match this `expression`, and write no report unless -out is given")
	flag.StringVar(&o.strata, "strata", "./strata", "the `program` to measure")
	which := flag.String("part", "all", "what to measure: serve, snapshots, cluster or all; each `part` has its own page")
	flag.StringVar(&o.disk, "disk", ".cache", "`folder` on a disk, for what depends on one; empty for none")
	flag.IntVar(&o.exceptions, "exceptions", 10_000_000, "`number` of exceptions of a large snapshot store")
	flag.StringVar(&o.dir, "dir", "", "`folder` for disk images (default a new one in memory)")
	flag.StringVar(&o.out, "out", "docs", "`folder` of the reports")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements of each figure")
	flag.IntVar(&o.limitRounds, "limit-rounds", 3, "in how many of the rounds the limit is measured")
	flag.IntVar(&o.seconds, "seconds", 0, "length of a measurement (default 1)")
	flag.IntVar(&o.size, "size", 0, "size of the disks in MiB (default 256, for snapshots 1024)")
	flag.Parse()
	write := *only == ""
	flag.Visit(func(f *flag.Flag) { write = write || f.Name == "out" })
	o.only = regexp.MustCompile(*only)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, *which, write); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs the parts of that name.
func run(ctx context.Context, o options, which string, write bool) error {
	var err error
	if o.strata, err = filepath.Abs(o.strata); err != nil {
		return err
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	known := which == "all"
	for _, p := range parts {
		if which != "all" && which != p.name {
			continue
		}
		known = true
		if err := p.do(ctx, o, write); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("there is no part %q, only serve, snapshots, cluster and all", which)
	}
	return nil
}

func (p part) do(ctx context.Context, o options, write bool) error {
	o.seconds, o.size = cmp.Or(o.seconds, p.seconds), cmp.Or(o.size, p.size)
	o.where = "in " + o.dir
	if o.dir == "" {
		o.where = "in memory (tmpfs)"
		dir, err := os.MkdirTemp(memoryDir(), "strata-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	start := time.Now()
	r, err := p.run(ctx, o)
	if err != nil || !write {
		return err
	}
	r.took = time.Since(start)
	return p.write(r, o.out)
}

// runServe compares servers, and tools that copy.
func runServe(ctx context.Context, o options) (*report, error) {
	lab, err := newLab(o)
	if err != nil {
		return nil, err
	}
	report := newReport(o)
	for _, group := range groups() {
		if err := lab.measure(ctx, group, report); err != nil {
			return nil, fmt.Errorf("%s: %w", group.title, err)
		}
	}
	if err := lab.measureCopies(ctx, report); err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	if err := lab.measureIdle(ctx, report); err != nil {
		return nil, fmt.Errorf("idle: %w", err)
	}
	if err := lab.measureLayers(ctx, report); err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	return report, nil
}

// memoryDir is a folder whose files live in memory: what is compared is the
// servers, not the disk of this machine.
func memoryDir() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}
