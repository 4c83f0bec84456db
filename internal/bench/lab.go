package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// A lab is the place where measurements are made.
type lab struct {
	o     options
	run   string // folder for sockets and logs
	image string // random bytes, what every disk holds at first
	// disk is what all servers of files serve, under names of their own: how a
	// file lies in memory differs from file to file by a tenth of the
	// throughput.
	disk  string
	certs string // folder with certificates as all programs want them
	count int
}

func newLab(o options) (*lab, error) {
	l := &lab{o: o, run: o.dir, image: filepath.Join(o.dir, "image"), disk: filepath.Join(o.dir, "disk.img"), certs: filepath.Join(o.dir, "certs")}
	var seed [32]byte
	if err := makeFile(l.image, io.LimitReader(rand.NewChaCha8(seed), int64(o.size)<<20)); err != nil {
		return nil, err
	}
	if err := copyFile(l.disk, l.image); err != nil {
		return nil, err
	}
	if out, err := exec.Command(o.strata, "cert", l.certs).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s cert: %w: %s", o.strata, err, out)
	}
	return l, nil
}

// makeFile makes a file of what r gives, or replaces what it holds.
func makeFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func copyFile(to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return makeFile(to, f)
}

// A figure is one measurement, or the medians of several.
type figure struct {
	iops     float64
	p50, p99 time.Duration
	cpu      time.Duration // of the server, for each request
	sys      time.Duration // what of it was spent in the kernel
	peak     int64         // bytes of memory of the server
	// busy is how much of a processor the client used for each of its
	// connections. fio has one thread for each, which cannot use more than
	// one; our own generator has several.
	busy float64
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
		for round := range l.o.rounds {
			for _, s := range rotated(servers, round) {
				if s.name == limitName && !spread(round, l.o.limitRounds, l.o.rounds) {
					continue
				}
				f, err := l.drive(ctx, s, ld)
				if err != nil {
					return fmt.Errorf("%s, %v: %w", s.name, ld, err)
				}
				figures[s.name] = append(figures[s.name], f)
			}
		}
		section.add(ld, figures)
	}
	return nil
}

// rotated returns all, beginning with another one in each round: nobody gains or
// loses by the one before.
func rotated[T any](all []T, round int) []T {
	k := round % len(all)
	return slices.Concat(all[k:], all[:k])
}

// spread says whether round i of n is one of the k that are spread over all.
func spread(i, k, n int) bool { return i*k%n < k }

// startAll starts the servers of a group that are installed, and the limit.
func (l *lab) startAll(ctx context.Context, g group) (all []*running, err error) {
	for _, s := range append(slices.Clone(g.servers), bareEcho) {
		if s.program != "" {
			if _, err := exec.LookPath(s.program); err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s is not installed and is left out\n", s.program)
				continue
			}
		}
		r, err := l.start(ctx, s, g.transport)
		if err == nil && s.memory {
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
	generate := l.fio
	switch {
	case r.name == limitName:
		generate = l.echo
	case r.place.transport == overTLS:
		generate = l.generator
	}
	return charge(r, func() (figure, int64, error) { return generate(ctx, r, ld) })
}

// charge adds what the server uses to the figures of a load.
func charge(r *running, generate func() (f figure, total int64, err error)) (figure, error) {
	before, err := groupUsage(r.group)
	if err != nil {
		return figure{}, err
	}
	f, total, err := generate()
	if err != nil {
		return figure{}, err
	}
	after, err := groupUsage(r.group)
	if err != nil {
		return figure{}, err
	}
	f.cpu = (after.cpu - before.cpu) / time.Duration(max(total, 1))
	f.sys = (after.sys - before.sys) / time.Duration(max(total, 1))
	f.peak = after.peak
	return f, nil
}

// median of each field by itself.
func median(all []figure) figure {
	var f figure
	f.iops = middle(all, func(f figure) float64 { return f.iops })
	f.p50 = time.Duration(middle(all, func(f figure) float64 { return float64(f.p50) }))
	f.p99 = time.Duration(middle(all, func(f figure) float64 { return float64(f.p99) }))
	f.cpu = time.Duration(middle(all, func(f figure) float64 { return float64(f.cpu) }))
	f.busy = middle(all, func(f figure) float64 { return f.busy })
	f.sys = time.Duration(middle(all, func(f figure) float64 { return float64(f.sys) }))
	f.peak = int64(middle(all, func(f figure) float64 { return float64(f.peak) }))
	return f
}

// middle is the median of a field.
func middle[T any](all []T, field func(T) float64) float64 {
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
