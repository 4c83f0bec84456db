package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/layer"
	"github.com/strata-storage/strata/source"
)

// A passing is a layer that is made such that it passes requests through.
type passing struct {
	name string
	make func(dev block.Device) (block.Device, error)
	// readOnly says that it refuses writes.
	readOnly bool
}

func passings() []passing {
	// What is not hooked costs nothing, so the hook is on flushes.
	pass := func(context.Context, *layer.Request) error { return nil }
	return []passing{
		{name: "blocksize", make: func(d block.Device) (block.Device, error) {
			return layer.BlockSize(d, layer.BlockSizeOptions{Min: 512})
		}},
		{name: "concat of one", make: func(d block.Device) (block.Device, error) {
			return layer.Concat([]block.Device{d}, layer.ConcatOptions{})
		}},
		{name: "delay of flushes", make: func(d block.Device) (block.Device, error) {
			return layer.Delay(d, layer.DelayOptions{Flush: time.Second})
		}},
		{name: "fault of flushes", make: func(d block.Device) (block.Device, error) {
			return layer.Fault(d, layer.FaultOptions{Ops: []string{"flush"}})
		}},
		{name: "hook on flushes", make: func(d block.Device) (block.Device, error) {
			return layer.Hook(d, layer.Hooks{Ops: []layer.Op{layer.OpFlush}, Before: pass})
		}},
		{name: "log of flushes", make: func(d block.Device) (block.Device, error) {
			return layer.Log(d, layer.LogOptions{Ops: []string{"flush"}})
		}},
		{name: "readonly", readOnly: true, make: func(d block.Device) (block.Device, error) {
			return layer.ReadOnly(d, layer.ReadOnlyOptions{})
		}},
		{name: "retry", make: func(d block.Device) (block.Device, error) { return layer.Retry(d, layer.RetryOptions{}) }},
		{name: "slice", make: func(d block.Device) (block.Device, error) {
			return layer.Slice(d, layer.SliceOptions{Offset: 1 << 20})
		}},
		{name: "stats", make: func(d block.Device) (block.Device, error) { return layer.Stats(d, layer.StatsOptions{}) }},
		{name: "stripe of one", make: func(d block.Device) (block.Device, error) {
			return layer.Stripe([]block.Device{d}, layer.StripeOptions{})
		}},
		{name: "throttle without limits", make: func(d block.Device) (block.Device, error) {
			return layer.Throttle(d, layer.ThrottleOptions{})
		}},
	}
}

// A passCost is what a layer adds to a request of the device under it.
type passCost struct {
	name        string
	read, write time.Duration
	allocs      int64 // for each request
}

// measureLayers measures what layers cost that pass requests through, in this
// process, over a disk that does nothing.
func (l *lab) measureLayers(ctx context.Context, report *report) error {
	if !l.o.only.MatchString("pass-through layer") {
		return nil
	}
	testing.Init() // after our own flags have been parsed: its flags are none of ours
	if err := flag.Set("test.benchtime", "50ms"); err != nil {
		return err
	}
	bare, err := source.Null(ctx, source.NullOptions{Size: 1 << 30})
	if err != nil {
		return err
	}
	defer bare.Close()
	for _, p := range passings() {
		dev, err := p.make(bare)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := passes(ctx, p, dev); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		var all []passCost
		for range l.o.rounds {
			all = append(all, costOf(ctx, p, dev, bare))
		}
		c := passCost{name: p.name,
			read:   time.Duration(middle(all, func(c passCost) float64 { return float64(c.read) })),
			write:  time.Duration(middle(all, func(c passCost) float64 { return float64(c.write) })),
			allocs: slices.MaxFunc(all, func(a, b passCost) int { return int(a.allocs - b.allocs) }).allocs}
		report.layers = append(report.layers, c)
		fmt.Printf("%-22s %-34s read %v  write %v  %d allocations\n", "Pass-through layer", c.name, c.read, c.write, c.allocs)
	}
	return nil
}

// passes makes sure that a request can be measured at all.
func passes(ctx context.Context, p passing, dev block.Device) error {
	page := make([]byte, 512)
	if err := dev.ReadAt(ctx, page, 2<<20, block.NoWait); err != nil || p.readOnly {
		return err
	}
	return dev.WriteAt(ctx, page, 2<<20, block.NoWait)
}

// costOf measures a layer and the device under it in turn.
func costOf(ctx context.Context, p passing, dev, bare block.Device) passCost {
	page := make([]byte, 512)
	read := func(d block.Device) testing.BenchmarkResult {
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := d.ReadAt(ctx, page, 2<<20, block.NoWait); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	write := func(d block.Device) testing.BenchmarkResult {
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := d.WriteAt(ctx, page, 2<<20, block.NoWait); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	with, without := read(dev), read(bare)
	c := passCost{name: p.name, read: perOp(with) - perOp(without), allocs: with.AllocsPerOp()}
	if p.readOnly {
		return c
	}
	with, without = write(dev), write(bare)
	c.write, c.allocs = perOp(with)-perOp(without), max(c.allocs, with.AllocsPerOp())
	return c
}

// perOp is the time of one request; NsPerOp rounds down.
func perOp(r testing.BenchmarkResult) time.Duration {
	if r.N == 0 {
		return 0
	}
	return time.Duration(float64(r.T)/float64(r.N) + 0.5)
}
