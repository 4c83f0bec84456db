package source_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/source"
)

const oddSize = 1<<20 + 777

func TestMemConformance(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"odd": oddSize, "huge": 4 * eib} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocktest.Run(t, func(t testing.TB) block.Device {
				d, err := source.Mem(context.Background(), source.MemOptions{Size: size})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}, blocktest.Seeds(2))
		})
	}
}

func TestNullConformance(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		d, err := source.Null(context.Background(), source.NullOptions{Size: oddSize})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, blocktest.Lossy(), blocktest.Seeds(1))
}

func TestPatternConformance(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device { return mustPattern(t, oddSize) }, blocktest.Seeds(1))
}

// conform runs the suite on files that o describes, each of its own, in
// directories that dir makes.
func conform(t *testing.T, o source.FileOptions, dir func(testing.TB) string) {
	create := func(t testing.TB) func() block.Device {
		o := o
		o.Path = filepath.Join(dir(t), "disk.img")
		return func() block.Device {
			d, err := source.File(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	blocktest.Run(t, func(t testing.TB) block.Device { return create(t)() }, blocktest.Reopen(create), blocktest.Seeds(1))
}

func TestFileConformance(t *testing.T) {
	t.Parallel()
	disk := func(t testing.TB) string { return t.TempDir() }
	memory := func(t testing.TB) string { return shm(t) }
	plain := source.FileOptions{Create: true, Size: oddSize}
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		conform(t, plain, disk)
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		conform(t, plain, memory)
	})
	t.Run("sync", func(t *testing.T) {
		t.Parallel()
		o := plain
		o.Sync = true
		conform(t, o, memory)
	})
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		o := source.FileOptions{Create: true, Size: mib, Direct: true}
		directFile(t)
		conform(t, o, disk)
	})
	t.Run("read only", func(t *testing.T) {
		t.Parallel()
		path := makeFile(t, oddSize)
		blocktest.Run(t, func(t testing.TB) block.Device {
			return mustOpen(t, source.FileOptions{Path: path, ReadOnly: true})
		}, blocktest.Seeds(1))
	})
}
