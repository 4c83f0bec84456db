package blocktest_test

import (
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// TestReference runs the suite on the reference device with every kind of Info.
func TestReference(t *testing.T) {
	for name, info := range map[string]block.Info{
		"plain":     {Size: 1 << 20, FastZeros: true},
		"odd size":  {Size: 300<<10 + 77},
		"sectors":   {Size: 1 << 20, MinBlock: 512},
		"pages":     {Size: 1 << 20, MinBlock: 4096, PreferredBlock: 65536, FastZeros: true},
		"chunks":    {Size: 1 << 20, MinBlock: 64 << 10, PreferredBlock: 64 << 10},
		"short":     {Size: 1 << 20, MinBlock: 512, MaxBlock: 3 * 512},
		"one":       {Size: 256 << 10, MinBlock: 512, MaxBlock: 512},
		"nowait":    {Size: 1 << 20, NoWait: true},
		"read only": {Size: 1 << 20, ReadOnly: true},
		"large":     {Size: 1 << 40, FastZeros: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocktest.Run(t, func(t testing.TB) block.Device { return blocktest.NewDevice(info) })
		})
	}
}

func TestDiskReopened(t *testing.T) {
	info := block.Info{Size: 1 << 20, FastZeros: true}
	blocktest.Run(t, func(t testing.TB) block.Device { return blocktest.NewDevice(info) },
		blocktest.Reopen(func(t testing.TB) func() block.Device { return blocktest.NewMachine(1).Disk(info).Open }))
}
