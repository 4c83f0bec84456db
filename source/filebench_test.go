package source_test

import (
	"context"
	"os"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
)

// Requests that the page cache answers allocate nothing.
func TestFileAllocs(t *testing.T) {
	ctx := t.Context()
	d := mustFile(t, t.TempDir(), mib)
	p := make([]byte, 4096)
	if err := d.WriteAt(ctx, p, 8192, 0); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"write":         func() error { return d.WriteAt(ctx, p, 8192, 0) },
		"write no wait": func() error { return d.WriteAt(ctx, p, 8192, block.NoWait) },
		"read":          func() error { return d.ReadAt(ctx, p, 8192, 0) },
		"read no wait":  func() error { return d.ReadAt(ctx, p, 8192, block.NoWait) },
		"flush":         func() error { return d.Flush(ctx) },
	} {
		if n := testing.AllocsPerRun(20, func() {
			if err := f(); err != nil && err != block.ErrWouldBlock {
				t.Fatal(err)
			}
		}); n != 0 && name != "flush" {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// shm returns a directory in memory.
func shm(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "strata-test")
	if err != nil {
		peer.Cannot(t, "no /dev/shm: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func BenchmarkFileRead4K(b *testing.B) {
	d := mustFile(b, b.TempDir(), 64*mib)
	fill(b, d, 64*mib)
	for name, flags := range map[string]block.Flags{"wait": 0, "nowait": block.NoWait} {
		b.Run(name, func(b *testing.B) {
			bench4K(b, func(p []byte, off int64) error {
				return d.ReadAt(context.Background(), p, off%(64*mib), flags)
			})
		})
	}
}

func BenchmarkFileWrite4K(b *testing.B) {
	for name, flags := range map[string]block.Flags{"wait": 0, "nowait": block.NoWait} {
		for fs, dir := range map[string]string{"disk": b.TempDir(), "tmpfs": shm(b)} {
			b.Run(name+"/"+fs, func(b *testing.B) {
				d := mustFile(b, dir, 64*mib)
				fill(b, d, 64*mib)
				refused := 0
				bench4K(b, func(p []byte, off int64) error {
					err := d.WriteAt(context.Background(), p, off%(64*mib), flags)
					if err == block.ErrWouldBlock {
						refused++
						return nil
					}
					return err
				})
				b.ReportMetric(float64(refused)/float64(b.N), "refused/op")
			})
		}
	}
}
