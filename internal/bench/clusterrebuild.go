package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/strata-storage/strata/internal/units"
)

// What is noted of rebuilds: rates, times, and processor time for each byte.
const (
	rateCopy    = "copy"
	rateRebuild = "rebuild"
	rateBusy    = "rebuild while a client writes"
	timeStart   = "start of a node that is rebuilt"
	p99Calm     = "p99 of writes"
	p99Busy     = "p99 of writes during a rebuild"
	p99Burnt    = "p99 of writes beside an unrelated process"
	p50Calm     = "median of writes"
	p50Busy     = "median of writes during a rebuild"
	shareBurnt  = "processors that a rebuild uses while a client writes"
)

// perByte names the processor time of a rate, in nanoseconds for each byte.
func perByte(rate string) string { return "processor time of " + rate }

// oneWrite is what the client does.
var oneWrite = load{"randwrite", chunk, 1, 1}

// rebuiltVolumes is how many volumes a rebuild is about: one alone is copied in less time than
// it takes to start a node.
const rebuiltVolumes = 3

func rebuiltName(i int) string { return fmt.Sprintf("rebuilt%d", i) }

// rebuiltBytes is how much that is.
func rebuiltBytes(o options) float64 { return float64(int64(o.size)<<20) * rebuiltVolumes }

// measureRebuild measures how fast a node that was away gets what was written meanwhile: all of
// some volumes, while nobody wants anything, and with a client that writes to another one.
func (l *clusterLab) measureRebuild(ctx context.Context, b *clusterBed) (err error) {
	// What is there already would not have to be copied.
	other := filepath.Join(l.o.dir, "other")
	defer os.Remove(other)
	if err := makeFile(other, io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(l.o.size)<<20)); err != nil {
		return err
	}
	for i := range rebuiltVolumes {
		if err := b.volume(ctx, rebuiltName(i), usual.copies, true); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, b.change(ctx, "delete", map[string]any{"name": rebuiltName(i)}))
		}()
	}
	for range min(l.o.rounds, 3) {
		if err := l.copyThroughTLS(ctx); err != nil {
			return err
		}
		if _, err := l.rebuild(ctx, b, other, nil); err != nil {
			return err
		}
		calm, err := l.writeAlone(ctx, b)
		if err != nil {
			return err
		}
		share, err := l.rebuild(ctx, b, l.image, calm)
		if err != nil {
			return err
		}
		// The same share of the processors, for nothing.
		burning, stop := context.WithCancel(ctx)
		burnt := make(chan struct{})
		go func() { defer close(burnt); burn(burning, share) }()
		f, _, err := l.writeOnce(ctx, b)
		stop()
		if <-burnt; err != nil {
			return err
		}
		l.report.rate(shareBurnt, share)
		l.report.note(l.site, p99Burnt, f.p99)
	}
	return nil
}

// rebuild lets a node miss all of the volumes, which become an image, and notes what it takes to
// get it. If calm is what a client does otherwise, there is one, and the share of the processors
// is returned that the rebuild uses beside it.
func (l *clusterLab) rebuild(ctx context.Context, b *clusterBed, image string, calm *quiet) (share float64, err error) {
	if err := b.kill(memberNode); err != nil {
		return 0, err
	}
	for i := range rebuiltVolumes {
		out, err := exec.CommandContext(ctx, l.o.strata, "copy", image, b.uri(firstNode, rebuiltName(i))).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("writing what it misses: %w: %s", err, out)
		}
	}
	before, err := groupUsage(b.group)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := b.start(ctx, memberNode); err != nil {
		return 0, err
	}
	l.report.note(l.site, timeStart, time.Since(begin))
	if calm != nil {
		// To look how far it is would be work that the client meets.
		if share, err = l.writeMeanwhile(ctx, b, calm); err != nil {
			return 0, err
		}
	}
	if err := b.settle(ctx); err != nil {
		return 0, err
	}
	took := time.Since(begin) - settleCalm
	after, err := groupUsage(b.group)
	if err != nil {
		return 0, err
	}
	name := rateRebuild
	if calm != nil {
		name = rateBusy
	}
	l.report.cost(name, rebuiltBytes(l.o), took, after.cpu-before.cpu)
	return share, nil
}

// A quiet is what a client does while nothing else is done.
type quiet struct {
	// sent is what nodes send each other for each of its requests.
	sent float64
}

// writeOnce lets a client write, and returns what nodes have sent each other meanwhile.
func (l *clusterLab) writeOnce(ctx context.Context, b *clusterBed) (f figure, sent float64, err error) {
	before := loopbackBytes()
	f, _, err = l.fio(ctx, b.serving("", "vm1"), oneWrite)
	return f, float64(loopbackBytes() - before), err
}

func (l *clusterLab) writeAlone(ctx context.Context, b *clusterBed) (*quiet, error) {
	f, sent, err := l.writeOnce(ctx, b)
	if err != nil {
		return nil, err
	}
	l.report.note(l.site, p99Calm, f.p99)
	l.report.note(l.site, p50Calm, f.p50)
	return &quiet{sent: quotient(sent, f.iops*float64(l.o.seconds))}, nil
}

// writeMeanwhile lets a client write while a node is rebuilt, and returns how many processors
// the rebuild uses beside it: what nodes send each other more than for the client, at the cost
// of a rebuild without one.
func (l *clusterLab) writeMeanwhile(ctx context.Context, b *clusterBed, calm *quiet) (share float64, err error) {
	f, sent, err := l.writeOnce(ctx, b)
	if err != nil {
		return 0, err
	}
	l.report.note(l.site, p99Busy, f.p99)
	l.report.note(l.site, p50Busy, f.p50)
	more := sent/float64(l.o.seconds) - f.iops*calm.sent
	return max(more, 0) * l.report.rateOf(perByte(rateRebuild)) / 1e9, nil
}

// cost notes how fast so many bytes were moved, and at what cost.
func (c *clusterReport) cost(what string, size float64, took, cpu time.Duration) {
	c.rate(what, size/took.Seconds())
	c.rate(perByte(what), float64(cpu)/size)
	fmt.Printf("%s: %.0f MB/s in %.0f ms, %.2f ns of processors for each byte\n", what, size/took.Seconds()/1e6, millis(took), float64(cpu)/size)
}

// copyThroughTLS is how long it takes to move as much from a file to a file through a
// connection with TLS: what disks and network give.
func (l *clusterLab) copyThroughTLS(ctx context.Context) error {
	r, err := l.start(ctx, strataFile, overTLS)
	if err != nil {
		return err
	}
	defer r.stop()
	to := filepath.Join(l.o.dir, "through")
	defer os.Remove(to)
	before, err := groupUsage(r.group)
	if err != nil {
		return err
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, l.o.strata, "copy", r.uri, to)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy: %w: %s", err, strings.TrimSpace(string(out)))
	}
	took := time.Since(begin)
	after, err := groupUsage(r.group)
	if err != nil {
		return err
	}
	tool := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	l.report.cost(rateCopy, float64(l.o.size<<20), took, tool+after.cpu-before.cpu)
	return nil
}

// burnPiece is for how long a processor is used at a time.
const burnPiece = 300 * time.Microsecond

// burn uses so many processors, in small pieces, until ctx ends.
func burn(ctx context.Context, share float64) {
	period := time.Duration(float64(burnPiece) / max(share, 0.001))
	begin := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		go func() {
			for since := time.Now(); time.Since(since) < burnPiece; {
			}
		}()
		time.Sleep(time.Until(begin.Add(time.Duration(i) * period)))
	}
}

// rebuildOver is how fast an idle cluster makes copies anew, over what disks and network give.
func rebuildOver(r *report, _ float64) []outcome {
	c := r.cluster
	v, base := c.rateOf(rateRebuild), c.rateOf(rateCopy)
	if v == 0 || base == 0 {
		return nil
	}
	o := outcome{where: rateRebuild, value: v / base}
	if starts := c.times[onTmpfs+": "+timeStart]; len(starts) > 0 {
		o.bounds = append(o.bounds, fmt.Sprintf("%.0f ms of the %.0f ms are the start of the node", millis(median50(starts)), rebuiltBytes(r.o)/v*1e3))
	}
	if cost, least := c.rateOf(perByte(rateRebuild)), c.rateOf(perByte(rateCopy)); cost > 0 && least > 0 {
		cores := float64(runtime.NumCPU())
		o.bounds = append(o.bounds, fmt.Sprintf("processors: %.2f ns of all nodes for each byte, %.2f ns of both ends of the copy; idle %.0f %%, and %.2fx if they never were",
			cost, least, max(1-cost*v/1e9/cores, 0)*100, cores*1e9/cost/base))
	}
	return []outcome{o}
}

// rebuildLatency is what a client waits longer while a node is rebuilt.
func rebuildLatency(r *report, _ float64) []outcome {
	c := r.cluster
	middle := func(what string) float64 {
		if list := c.times[onTmpfs+": "+what]; len(list) > 0 {
			return float64(median50(list))
		}
		return 0
	}
	calm, busy := middle(p99Calm), middle(p99Busy)
	if calm == 0 || busy == 0 {
		return nil
	}
	o := outcome{where: oneWrite.String(), value: busy / calm}
	if burnt := middle(p99Burnt); burnt > 0 {
		o.bounds = append(o.bounds, fmt.Sprintf("the rebuild uses %.0f %% of the processors beside the client; a process that uses as much for nothing, %v at a time, makes it %.2fx",
			c.rateOf(shareBurnt)/float64(runtime.NumCPU())*100, burnPiece, burnt/calm))
	}
	if m := quotient(middle(p50Busy), middle(p50Calm)); m > 0 {
		o.bounds = append(o.bounds, fmt.Sprintf("the median is %.2fx", m))
	}
	return []outcome{o}
}

func (c *clusterReport) writeRebuild(b *bytes.Buffer) {
	if c.rateOf(rateRebuild) == 0 {
		return
	}
	fmt.Fprintf(b, "## Rebuild\n\nA node is killed, %s are written with something else, and the node is started again: until all groups are well, its start included. The *copy* is what disks and network give: a file of the size of a volume, through a connection with TLS to a file. A client that writes is there for the first second, at another volume, and the rebuild yields to it.\n\n| | | processors, for each byte |\n|---|---|---|\n", units.Plural(rebuiltVolumes, "volume"))
	for _, name := range []string{rateCopy, rateRebuild, rateBusy} {
		fmt.Fprintf(b, "| %s | %.0f MB/s | %.2f ns |\n", name, c.rateOf(name)/1e6, c.rateOf(perByte(name)))
	}
	fmt.Fprint(b, "\n| 4 KiB writes, depth 1 | median | p99 |\n|---|---|---|\n")
	for _, row := range []struct{ what, p50, p99 string }{
		{"at other times", p50Calm, p99Calm}, {"during a rebuild", p50Busy, p99Busy}, {"beside a process that uses as much of the processors", "", p99Burnt},
	} {
		if list := c.times[onTmpfs+": "+row.p99]; len(list) > 0 {
			half := "-"
			if row.p50 != "" {
				half = fmt.Sprintf("%.2f ms", millis(median50(c.times[onTmpfs+": "+row.p50])))
			}
			fmt.Fprintf(b, "| %s | %s | %.2f ms |\n", row.what, half, millis(median50(list)))
		}
	}
	fmt.Fprintln(b)
}
