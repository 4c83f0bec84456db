package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/load"
	"github.com/strata-storage/strata/internal/units"
)

// A benching is one run of the command bench.
type benching struct {
	env       *Env
	o         load.Options
	size      string
	conns     int
	overwrite bool
	json      bool
}

func (e *Env) bench() *cobra.Command {
	b := &benching{env: e}
	cmd := &cobra.Command{
		Use:   "bench DISK [flags]",
		Short: "Measure how fast a disk is",
		Long: "Makes requests to a disk, which is a file, an NBD URI or an expression, and\n" +
			"prints their rate and latency. Reads do no harm. Writes destroy what is on the\n" +
			"disk, so they need --overwrite.",
		Example: "  strata bench nbd://localhost/vm\n" +
			"  strata bench --reads 70 --overwrite --size 64k --depth 32 --connections 4 nbd://localhost/scratch\n" +
			"  strata bench --size 1M --sequential 'mem(\"1G\")'",
		GroupID: groupUse,
		Args:    arguments(1, 1, "one disk"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			if err := b.check(); err != nil {
				return err
			}
			return b.run(ctx, args[0])
		}),
	}
	f := cmd.Flags()
	f.IntVar(&b.o.Reads, "reads", 100, "share of reads in percent; the rest are writes")
	f.BoolVar(&b.o.Sequential, "sequential", false, "one after the other instead of at random")
	f.StringVar(&b.size, "size", "4k", "bytes in one request")
	f.IntVar(&b.o.Depth, "depth", 16, "requests in flight on each connection")
	f.IntVar(&b.conns, "connections", 1, "connections")
	f.DurationVar(&b.o.Duration, "duration", 10*time.Second, "how long; 0 for no end")
	f.Int64Var(&b.o.Requests, "requests", 0, "at most so many requests; 0 for no bound")
	f.Uint64Var(&b.o.Seed, "seed", 1, "choice of offsets and content")
	f.BoolVar(&b.o.Verify, "verify", false, "compare what is read with what was written")
	f.BoolVar(&b.overwrite, "overwrite", false, "allow writes")
	f.BoolVar(&b.json, "json", false, "print JSON")
	return cmd
}

// maxConns bounds the connections that a command makes to one disk.
const maxConns = 256

func (b *benching) check() error {
	n, err := units.ParseBytes(b.size)
	switch {
	case err != nil || n > load.MaxSize:
		return usagef("--size %q: want a size up to %s", b.size, units.Bytes(load.MaxSize))
	case b.o.Reads < 0 || b.o.Reads > 100:
		return usagef("--reads %d: want 0 to 100", b.o.Reads)
	case b.o.Depth < 1 || b.o.Depth > load.MaxDepth:
		return usagef("--depth %d: want 1 to %d", b.o.Depth, load.MaxDepth)
	case b.conns < 1 || b.conns > maxConns:
		return usagef("--connections %d: want 1 to %d", b.conns, maxConns)
	case b.o.Duration < 0:
		return usagef("--duration %v: want a duration that is not negative", b.o.Duration)
	case b.o.Requests < 0:
		return usagef("--requests %d: want a number that is not negative", b.o.Requests)
	case b.o.Reads < 100 && !b.overwrite:
		return usagef("writes destroy what is on the disk: add --overwrite if that is meant")
	case b.o.Duration == 0 && b.o.Requests == 0:
		return usagef("without a duration or a number of requests it would never end")
	}
	b.o.Size = int(n)
	return nil
}

func (b *benching) run(ctx context.Context, disk string) (err error) {
	to := toRead
	if b.o.Reads < 100 {
		to = toWrite
	}
	devs, err := b.env.openSeveral(ctx, disk, b.conns, to)
	if err != nil {
		return err
	}
	for _, dev := range devs {
		defer closing(dev, "the disk", &err)
	}
	if to == toWrite && devs[0].Info().ReadOnly {
		return fmt.Errorf("%s is read-only; writes cannot be measured there", disk)
	}
	result, err := load.Run(ctx, devs, b.o)
	switch {
	case err != nil:
		return err
	case b.json:
		return writeJSON(b.env.Stdout, result)
	}
	writeResult(b.env.Stdout, result)
	return nil
}

// openSeveral opens a remote disk once for each connection, and any other
// disk once for all.
func (e *Env) openSeveral(ctx context.Context, arg string, conns int, to access) ([]block.Device, error) {
	var devs []block.Device
	for range conns {
		if len(devs) > 0 && !isURI(arg) {
			devs = append(devs, block.Keep(devs[0]))
			continue
		}
		dev, err := e.openDevice(ctx, arg, 1, to)
		if err != nil {
			for _, d := range devs {
				d.Close()
			}
			return nil, err
		}
		devs = append(devs, dev)
	}
	return devs, nil
}

func writeResult(w io.Writer, r *load.Result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests/s\tthroughput\tmin\tmean\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, row := range []struct {
		name string
		s    *load.Summary
	}{{"read", r.Read}, {"write", r.Write}} {
		if row.s == nil {
			continue
		}
		l := row.s.Latency
		fmt.Fprintf(t, "%s\t%s\t%s\t", row.name, units.Count(row.s.RequestsPerSecond), units.Rate(row.s.BytesPerSecond))
		for _, d := range []time.Duration{l.Min, l.Mean, l.P50, l.P90, l.P99, l.P999, l.Max} {
			fmt.Fprintf(t, "%s\t", units.Duration(d))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}
