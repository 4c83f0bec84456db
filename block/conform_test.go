package block_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// odd is a size that is no multiple of anything.
const odd = 300<<10 + 77

func TestFromBytesConforms(t *testing.T) {
	blocktest.Run(t, func(testing.TB) block.Device { return block.FromBytes(make([]byte, odd)) })
}

func TestFromFileConforms(t *testing.T) {
	blocktest.Run(t, func(t testing.TB) block.Device { return openFile(t, newFile(t)) },
		blocktest.Reopen(func(t testing.TB) func() block.Device {
			name := newFile(t)
			return func() block.Device { return openFile(t, name) }
		}))
}

func newFile(t testing.TB) string {
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, odd), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func openFile(t testing.TB, name string) block.Device {
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

func TestFromReaderAtConforms(t *testing.T) {
	content := make([]byte, odd)
	blocktest.Fill(content, 0, 1)
	blocktest.Run(t, func(testing.TB) block.Device { return block.FromReaderAt(bytes.NewReader(content), odd) })
}

func TestPassConforms(t *testing.T) {
	blocktest.Run(t, func(testing.TB) block.Device {
		return block.Pass{Device: blocktest.NewDevice(block.Info{Size: odd, NoWait: true})}
	})
}
