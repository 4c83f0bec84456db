package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// fio generates a load with fio's nbd engine.
func (l *lab) fio(ctx context.Context, r *running, ld load) (figure, int64, error) {
	return runFio(ctx, r.uri, ld, "--time_based", fmt.Sprintf("--runtime=%d", l.o.seconds), fmt.Sprintf("--size=%dM", l.o.size))
}

// runFio runs fio with what bounds it.
func runFio(ctx context.Context, uri string, ld load, bounds ...string) (figure, int64, error) {
	args := append([]string{"--name=bench", "--ioengine=nbd", "--uri=" + uri,
		"--rw=" + ld.rw, fmt.Sprintf("--bs=%d", ld.bs), fmt.Sprintf("--iodepth=%d", ld.depth), fmt.Sprintf("--numjobs=%d", ld.conns),
		"--thread", "--group_reporting", "--randrepeat=0", "--output-format=json"}, bounds...)
	cmd := exec.CommandContext(ctx, "fio", args...)
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
	cmd := exec.CommandContext(ctx, l.o.strata, append(args, r.uri)...)
	out, err := cmd.Output()
	if err != nil {
		return figure{}, 0, fmt.Errorf("%s bench: %w: %s", l.o.strata, err, stderrOf(err))
	}
	f, total, elapsed, err := parseGenerator(out)
	if err != nil {
		return figure{}, 0, err
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	f.busy = used.Seconds() / elapsed.Seconds() / float64(ld.conns)
	return f, total, nil
}

// stderrOf is what a program that failed has said.
func stderrOf(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(e.Stderr)
	}
	return ""
}

func parseGenerator(out []byte) (f figure, total int64, elapsed time.Duration, err error) {
	type direction struct {
		Requests int64   `json:"requests"`
		Rate     float64 `json:"requests_per_second"`
		Latency  struct {
			P50 time.Duration `json:"p50"`
			P99 time.Duration `json:"p99"`
		} `json:"latency_ns"`
	}
	var doc struct {
		Elapsed     time.Duration `json:"elapsed_ns"`
		Read, Write *direction
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return f, 0, 0, fmt.Errorf("bench: %w: %s", err, out)
	}
	d := doc.Read
	if d == nil {
		d = doc.Write
	}
	if d == nil || d.Requests == 0 || doc.Elapsed <= 0 {
		return f, 0, 0, fmt.Errorf("bench measured nothing: %s", out)
	}
	return figure{iops: d.Rate, p50: d.Latency.P50, p99: d.Latency.P99}, d.Requests, doc.Elapsed, nil
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
			// In percent of the time of all threads together.
			User   float64 `json:"usr_cpu"`
			System float64 `json:"sys_cpu"`
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
	f.busy = (doc.Jobs[0].User + doc.Jobs[0].System) / 100
	f.p50 = time.Duration(d.Lat.Percentile["50.000000"])
	f.p99 = time.Duration(d.Lat.Percentile["99.000000"])
	return f, d.Total, nil
}
