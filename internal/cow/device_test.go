package cow

import (
	"bytes"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// noise returns a base of n bytes that are not zeros.
func noise(n int) []byte {
	p := make([]byte, n)
	blocktest.Fill(p, 0, 99)
	return p
}

// A shelf has a base and the disk of a difference file for it.
type shelf struct {
	bytes []byte
	diff  *blocktest.Disk
}

// newShelf formats a difference file for a base of noise.
func newShelf(t testing.TB, m *blocktest.Machine, size int, chunk int64) *shelf {
	t.Helper()
	return newShelfOf(t, m, noise(size), chunk)
}

// newShelfOf formats a difference file for a base of these bytes.
func newShelfOf(t testing.TB, m *blocktest.Machine, bytes []byte, chunk int64) *shelf {
	t.Helper()
	s := &shelf{bytes: bytes}
	n, err := FileSize(int64(len(bytes)), chunk)
	if err != nil {
		t.Fatal(err)
	}
	s.diff = m.Disk(block.Info{Size: n, FastZeros: true, NoWait: true})
	if err := Format(t.Context(), s.base(), s.diff.Open(), chunk); err != nil {
		t.Fatal(err)
	}
	return s
}

// base opens the base, which cannot be written.
func (s *shelf) base() block.Device {
	return block.FromReaderAt(bytes.NewReader(s.bytes), int64(len(s.bytes)))
}

// model returns a model of the device that open returns.
func (s *shelf) model() *blocktest.Model {
	return blocktest.NewModel(block.Info{Size: int64(len(s.bytes)), NoWait: true})
}

// open returns the writable device.
func (s *shelf) open(t testing.TB) block.Device {
	t.Helper()
	d, err := Open(t.Context(), s.base(), s.diff.Open(), false)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The device is a disk, with chunks of all sizes, and a last chunk that is
// shorter than the others.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size  int
		chunk int64
	}{
		"4K":       {256 << 10, 4096},
		"512":      {128<<10 + 512, 512},
		"64K":      {256<<10 + 4096 + 512, 64 << 10},
		"odd size": {300_001, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			create := func(t testing.TB) func() block.Device {
				s := newShelf(t, blocktest.NewMachine(1), c.size, c.chunk)
				return func() block.Device { return s.open(t) }
			}
			blocktest.Run(t, func(t testing.TB) block.Device { return create(t)() }, blocktest.Reopen(create), blocktest.Seeds(4))
		})
	}
}

func TestConformanceReadOnly(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		s := newShelf(t, blocktest.NewMachine(1), 256<<10, 4096)
		d := s.open(t)
		for off := int64(0); off < 240<<10; off += 20_000 {
			if err := errors.Join(d.WriteAt(t.Context(), make([]byte, 5000), off, 0), d.Zero(t.Context(), off+8192, 4096, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := Open(t.Context(), s.base(), s.diff.Open(), true)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
