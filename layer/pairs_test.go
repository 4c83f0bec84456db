package layer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
)

// A maker puts a layer over as many fresh devices as it likes to open.
type maker func(t testing.TB, open func() block.Device) block.Device

// over makes a maker of the constructor of a layer over one device.
func over[O any](f func(block.Device, O) (block.Device, error), o O) maker {
	return func(t testing.TB, open func() block.Device) block.Device {
		t.Helper()
		return must[block.Device](t)(f(open(), o))
	}
}

// overMany makes a maker of the constructor of a layer over n devices.
func overMany[O any](n int, f func([]block.Device, O) (block.Device, error), o O) maker {
	return func(t testing.TB, open func() block.Device) block.Device {
		t.Helper()
		var devs []block.Device
		for range n {
			devs = append(devs, open())
		}
		return must[block.Device](t)(f(devs, o))
	}
}

// makers is every layer in a form that keeps what is written to it.
var makers = map[string]maker{
	"concat":    overMany(3, Concat, ConcatOptions{}),
	"stripe":    overMany(3, Stripe, StripeOptions{Chunk: 4096}),
	"mirror":    overMany(2, Mirror, MirrorOptions{}),
	"slice":     over(Slice, SliceOptions{Offset: 4096}),
	"readonly":  over(ReadOnly, ReadOnlyOptions{}),
	"blocksize": over(BlockSize, BlockSizeOptions{Max: 8192}),
	"raised":    over(BlockSize, BlockSizeOptions{Min: 4096}),
	"cache":     over(Cache, CacheOptions{Size: 20 << 10, Block: 4096}),
	"delay":     over(Delay, DelayOptions{All: 1}),
	"fault":     over(Fault, FaultOptions{Nth: 1 << 40}),
	"log":       over(Log, LogOptions{Logger: slog.New(slog.DiscardHandler)}),
	"retry":     over(Retry, RetryOptions{}),
	"stats":     over(Stats, StatsOptions{}),
	"throttle":  over(Throttle, ThrottleOptions{Bytes: 1 << 40}),
	"cow": func(t testing.TB, open func() block.Device) block.Device {
		t.Helper()
		return must[block.Device](t)(Cow(open(), CowOptions{Diff: filepath.Join(t.TempDir(), "diff")}))
	},
	"view": func(t testing.TB, open func() block.Device) block.Device {
		t.Helper()
		d := twins{Pass: block.Pass{Device: block.FromBytes(make([]byte, 64<<10))}, twin: open()}
		return must[block.Device](t)(View(d, ViewOptions{Name: "twin"}))
	},
	"hook": over(Hook, Hooks{Before: func(context.Context, *Request) error { return nil }}),
}

// No layer is missing from the table.
func TestPairsComplete(t *testing.T) {
	t.Parallel()
	constructor := regexp.MustCompile(`(?m)^func ([A-Z]\w*)\(devs? (?:\[\])?block\.Device, .*\) \(block\.Device, error\)`)
	files := must[[]string](t)(filepath.Glob("*.go"))
	for _, file := range files {
		source := must[[]byte](t)(os.ReadFile(file))
		for _, m := range constructor.FindAllSubmatch(source, -1) {
			if name := strings.ToLower(string(m[1])); makers[name] == nil {
				t.Errorf("%s: %s has no line in the table makers of pairs_test.go", file, m[1])
			}
		}
	}
}

// Every layer over every layer answers random requests as a disk does.
func TestPairs(t *testing.T) {
	t.Parallel()
	for outer := range makers {
		for inner := range makers {
			t.Run(outer+" over "+inner, func(t *testing.T) {
				t.Parallel()
				open := func() block.Device {
					return makers[outer](t, func() block.Device {
						return makers[inner](t, func() block.Device {
							return disks(block.Info{MinBlock: 512, NoWait: true}, 64<<10)[0]
						})
					})
				}
				if err := runHistories(t, open); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// runHistories plays random histories, each on a fresh device, and
// shortens one that fails.
func runHistories(t *testing.T, open func() block.Device) error {
	probe := open()
	info := probe.Info()
	if err := probe.Close(); err != nil {
		return err
	}
	play := func(h blocktest.History) error {
		dev := open()
		return errors.Join(h.Run(t.Context(), dev), dev.Close())
	}
	seeds := uint64(3)
	if race.Enabled {
		seeds = 1
	}
	for seed := range seeds {
		h := blocktest.Generate(seed, info, 60)
		if err := play(h); err != nil {
			h, err = h.Shrink(info, err, play)
			return fmt.Errorf("%w\nin the history\n%v", err, h)
		}
	}
	return nil
}
