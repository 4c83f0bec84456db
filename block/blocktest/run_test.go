package blocktest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

func TestBytes(t *testing.T) {
	blocktest.Run(t, func(t testing.TB) block.Device { return block.FromBytes(make([]byte, 300<<10+77)) })
}

func TestFile(t *testing.T) {
	open := func(t testing.TB, name string) block.Device {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		dev, err := block.FromFile(f)
		if err != nil {
			t.Fatal(err)
		}
		return dev
	}
	create := func(t testing.TB) string {
		name := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(name, make([]byte, 700<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	blocktest.Run(t, func(t testing.TB) block.Device { return open(t, create(t)) },
		blocktest.Reopen(func(t testing.TB) func() block.Device {
			name := create(t)
			return func() block.Device { return open(t, name) }
		}))
}
