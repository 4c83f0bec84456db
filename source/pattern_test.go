package source_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/source"
	"pgregory.net/rapid"
)

func mustPattern(t testing.TB, size int64) block.Device {
	t.Helper()
	d, err := source.Pattern(context.Background(), source.PatternOptions{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Any read is a cut out of the sequence of offsets.
func TestPattern(t *testing.T) {
	t.Parallel()
	const size = 4099
	whole := make([]byte, size+8)
	for off := 0; off < size; off += 8 {
		binary.BigEndian.PutUint64(whole[off:], uint64(off))
	}
	d := mustPattern(t, size)
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, size).Draw(t, "off")
		p := make([]byte, rapid.IntRange(0, size-off).Draw(t, "n"))
		if err := d.ReadAt(context.Background(), p, int64(off), block.NoWait); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, whole[off:off+len(p)]) {
			t.Fatalf("wrong bytes at %d", off)
		}
	})
	if err := d.WriteAt(t.Context(), whole[:8], 0, 0); !errors.Is(err, block.ErrReadOnly) {
		t.Error(err)
	}
}

// The pattern is that of nbdkit.
func TestPatternPeer(t *testing.T) {
	t.Parallel()
	peer.Need(t, "nbdkit", "nbdcopy")
	const size = 3*mib + 12345
	copied := filepath.Join(t.TempDir(), "copy")
	out, err := exec.Command("nbdcopy", "--", "[", "nbdkit", "--exit-with-parent", "pattern", "3158073", "]", copied).CombinedOutput()
	if err != nil {
		t.Fatalf("nbdcopy: %v\n%s", err, out)
	}
	want, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if err := mustPattern(t, size).ReadAt(t.Context(), got, 0, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("nbdkit has %d bytes that differ from our %d", len(want), len(got))
	}
}

func BenchmarkPatternRead4K(b *testing.B) {
	d := mustPattern(b, 1<<40)
	bench4K(b, func(p []byte, off int64) error {
		return d.ReadAt(context.Background(), p, off%(1<<40), block.NoWait)
	})
}
