package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A lab is the place where measurements are made.
type lab struct {
	o     options
	image string // random bytes, what every disk holds at first
	certs string // folder with certificates as all programs want them
	count int
}

func newLab(o options) (*lab, error) {
	l := &lab{o: o, image: filepath.Join(o.dir, "image"), certs: filepath.Join(o.dir, "certs")}
	var seed [32]byte
	random := rand.NewChaCha8(seed)
	data := make([]byte, o.size<<20)
	random.Read(data)
	if err := os.WriteFile(l.image, data, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command(o.strata, "cert", l.certs).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s cert: %w: %s", o.strata, err, out)
	}
	return l, nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// A figure is one measurement, or the medians of several.
type figure struct {
	iops     float64
	p50, p99 time.Duration
	cpu      time.Duration // of the server, for each request
	peak     int64         // bytes of memory of the server
}

// measure measures the rows of a group.
func (l *lab) measure(ctx context.Context, g group, report *report) error {
	loads := slices.DeleteFunc(slices.Clone(g.loads), func(ld load) bool { return !l.o.only.MatchString(g.title + ": " + ld.String()) })
	if len(loads) == 0 {
		return nil
	}
	servers, err := l.startAll(ctx, g)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	section := report.section(g)
	for _, ld := range loads {
		figures := map[string][]figure{}
		for range l.o.rounds {
			for _, s := range servers {
				f, err := l.drive(ctx, s, ld)
				if err != nil {
					return fmt.Errorf("%s, %v: %w", s.name, ld, err)
				}
				figures[s.name] = append(figures[s.name], f)
			}
			if g.transport == overUnix && ld.conns == 1 {
				f, err := l.echo(ctx, ld)
				if err != nil {
					return fmt.Errorf("echo, %v: %w", ld, err)
				}
				figures[limitName] = append(figures[limitName], f)
			}
		}
		section.add(ld, figures)
	}
	return nil
}

// startAll starts the servers of a group that are installed.
func (l *lab) startAll(ctx context.Context, g group) (all []*running, err error) {
	for _, s := range g.servers {
		if s.program != "" {
			if _, err := exec.LookPath(s.program); err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s is not installed and is left out\n", s.program)
				continue
			}
		}
		r, err := l.start(ctx, s, g.transport)
		if err == nil && !s.file {
			err = l.fill(ctx, r)
		}
		if err != nil {
			for _, r := range all {
				r.stop()
			}
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// fill gives a disk in memory its content, so that nobody gains by having none.
func (l *lab) fill(ctx context.Context, r *running) error {
	out, err := exec.CommandContext(ctx, l.o.strata, "copy", l.image, r.uri).CombinedOutput()
	if err != nil {
		r.stop()
		return fmt.Errorf("fill %s: %w: %s", r.name, err, out)
	}
	return nil
}

// drive puts a load on a server.
func (l *lab) drive(ctx context.Context, r *running, ld load) (figure, error) {
	before, err := groupUsage(r.group)
	if err != nil {
		return figure{}, err
	}
	generate := l.fio
	if r.place.transport == overTLS {
		generate = l.generator
	}
	f, total, err := generate(ctx, r, ld)
	if err != nil {
		return figure{}, err
	}
	after, err := groupUsage(r.group)
	if err != nil {
		return figure{}, err
	}
	f.cpu = (after.cpu - before.cpu) / time.Duration(max(total, 1))
	f.peak = after.peak
	return f, nil
}

// fio generates a load with fio's nbd engine.
func (l *lab) fio(ctx context.Context, r *running, ld load) (figure, int64, error) {
	cmd := exec.CommandContext(ctx, "fio", "--name=bench", "--ioengine=nbd", "--uri="+r.uri,
		"--rw="+ld.rw, fmt.Sprintf("--bs=%d", ld.bs), fmt.Sprintf("--iodepth=%d", ld.depth), fmt.Sprintf("--numjobs=%d", ld.conns),
		"--thread", "--group_reporting", "--time_based", fmt.Sprintf("--runtime=%d", l.o.seconds), fmt.Sprintf("--size=%dM", l.o.size),
		"--randrepeat=0", "--output-format=json")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return figure{}, 0, fmt.Errorf("fio: %w: %s", err, stderr.String())
	}
	return parseFio(out)
}

// generator generates a load with our own client: fio cannot be told where
// certificates are.
func (l *lab) generator(ctx context.Context, r *running, ld load) (figure, int64, error) {
	args := []string{"bench", "--json", "--size", fmt.Sprint(ld.bs), "--depth", fmt.Sprint(ld.depth),
		"--connections", fmt.Sprint(ld.conns), "--duration", fmt.Sprintf("%ds", l.o.seconds)}
	if strings.Contains(ld.rw, "write") {
		args = append(args, "--reads", "0", "--overwrite")
	}
	if !strings.HasPrefix(ld.rw, "rand") {
		args = append(args, "--sequential")
	}
	out, err := exec.CommandContext(ctx, l.o.strata, append(args, r.uri)...).Output()
	if err != nil {
		return figure{}, 0, fmt.Errorf("%s bench: %w: %s", l.o.strata, err, stderrOf(err))
	}
	return parseGenerator(out)
}

// stderrOf is what a program that failed has said.
func stderrOf(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(e.Stderr)
	}
	return ""
}

func parseGenerator(out []byte) (f figure, total int64, err error) {
	type direction struct {
		Requests int64   `json:"requests"`
		Rate     float64 `json:"requests_per_second"`
		Latency  struct {
			P50 time.Duration `json:"p50"`
			P99 time.Duration `json:"p99"`
		} `json:"latency_ns"`
	}
	var doc struct{ Read, Write *direction }
	if err := json.Unmarshal(out, &doc); err != nil {
		return f, 0, fmt.Errorf("bench: %w: %s", err, out)
	}
	d := doc.Read
	if d == nil {
		d = doc.Write
	}
	if d == nil || d.Requests == 0 {
		return f, 0, fmt.Errorf("bench measured nothing: %s", out)
	}
	return figure{iops: d.Rate, p50: d.Latency.P50, p99: d.Latency.P99}, d.Requests, nil
}

// parseFio takes the figures out of fio's JSON, in front of which fio puts
// remarks.
func parseFio(out []byte) (f figure, total int64, err error) {
	type direction struct {
		IOPS  float64 `json:"iops"`
		Total int64   `json:"total_ios"`
		Lat   struct {
			Percentile map[string]float64 `json:"percentile"`
		} `json:"clat_ns"`
	}
	var doc struct {
		Jobs []struct {
			Error int       `json:"error"`
			Read  direction `json:"read"`
			Write direction `json:"write"`
		} `json:"jobs"`
	}
	start := strings.IndexByte(string(out), '{')
	if start < 0 {
		return f, 0, fmt.Errorf("fio says %q", out)
	}
	if err := json.Unmarshal(out[start:], &doc); err != nil {
		return f, 0, fmt.Errorf("fio: %w", err)
	}
	if len(doc.Jobs) != 1 || doc.Jobs[0].Error != 0 {
		return f, 0, fmt.Errorf("fio reports a failure: %s", out)
	}
	d := doc.Jobs[0].Read
	if d.Total == 0 {
		d = doc.Jobs[0].Write
	}
	f.iops = d.IOPS
	f.p50 = time.Duration(d.Lat.Percentile["50.000000"])
	f.p99 = time.Duration(d.Lat.Percentile["99.000000"])
	return f, d.Total, nil
}

// median of each field by itself.
func median(all []figure) figure {
	var f figure
	f.iops = middle(all, func(f figure) float64 { return f.iops })
	f.p50 = time.Duration(middle(all, func(f figure) float64 { return float64(f.p50) }))
	f.p99 = time.Duration(middle(all, func(f figure) float64 { return float64(f.p99) }))
	f.cpu = time.Duration(middle(all, func(f figure) float64 { return float64(f.cpu) }))
	f.peak = int64(middle(all, func(f figure) float64 { return float64(f.peak) }))
	return f
}

func middle(all []figure, field func(figure) float64) float64 {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = field(f)
	}
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}
