// Command bench compares Strata with the other NBD servers and copy tools that
// are installed, all in one interleaved run, and writes docs/benchmarks.md and
// its picture. It is what "make bench" runs.
//
// Every row is measured in rounds: first all servers once, then all again, so
// that a machine whose speed drifts is equally unfair to each. A figure is the
// median of its rounds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

// options of a run.
type options struct {
	strata string // the program under test
	dir    string // where disk images lie
	where  string // that is, in words
	out    string // folder of the report
	rounds int
	// limitRounds is in how many of them the limit is measured: it takes
	// part in no ratio of speed, and a run has to end.
	limitRounds int
	seconds     int // of one measurement
	size        int // MiB of the disks
	only        *regexp.Regexp
}

func main() {
	if len(os.Args) > 3 && os.Args[1] == echoCommand {
		fmt.Fprintln(os.Stderr, "bench: echo:", serveEcho(os.Args[2:]))
		os.Exit(1)
	}
	if code, done := isolate(); done {
		os.Exit(code)
	}
	var o options
	only := flag.String("only", "", "measure the rows that match this `expression`, and write no report unless -out is given")
	flag.StringVar(&o.strata, "strata", "./strata", "the `program` to measure")
	flag.StringVar(&o.dir, "dir", "", "`folder` for disk images (default a new one in memory)")
	flag.StringVar(&o.out, "out", "docs", "`folder` of benchmarks.md and benchmarks.svg")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements of each figure")
	flag.IntVar(&o.limitRounds, "limit-rounds", 3, "in how many of the rounds the limit is measured")
	flag.IntVar(&o.seconds, "seconds", 2, "length of a measurement")
	flag.IntVar(&o.size, "size", 256, "size of the disks in MiB")
	flag.Parse()
	write := *only == ""
	flag.Visit(func(f *flag.Flag) { write = write || f.Name == "out" })
	o.only = regexp.MustCompile(*only)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, write); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, write bool) error {
	var err error
	if o.strata, err = filepath.Abs(o.strata); err != nil {
		return err
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	o.where = "in " + o.dir
	if o.dir == "" {
		o.where = "in memory (tmpfs)"
		if o.dir, err = os.MkdirTemp(memoryDir(), "strata-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	}
	lab, err := newLab(o)
	if err != nil {
		return err
	}
	report := newReport(o)
	start := time.Now()
	for _, group := range groups() {
		if err := lab.measure(ctx, group, report); err != nil {
			return fmt.Errorf("%s: %w", group.title, err)
		}
	}
	if err := lab.measureCopies(ctx, report); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := lab.measureIdle(ctx, report); err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	if err := lab.measureLayers(ctx, report); err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	report.took = time.Since(start)
	if !write {
		return nil
	}
	return report.write(o.out)
}

// memoryDir is a folder whose files live in memory: what is compared is the
// servers, not the disk of this machine.
func memoryDir() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}
