package cow

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// slowBase calls during in the middle of its first read, once armed.
type slowBase struct {
	block.Pass
	during func()
}

func (b *slowBase) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if f := b.during; f != nil {
		b.during = nil
		f()
	}
	return b.Pass.ReadAt(ctx, p, off, flags)
}

// While a write copies the rest of its chunk from the base, something else
// happens to that rest. It must not be undone.
func TestCopyAgainstOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(ctx context.Context, d block.Device) error
		want byte
	}{
		"zero":        {func(ctx context.Context, d block.Device) error { return d.Zero(ctx, 0, 4096, 0) }, 0},
		"zero nohole": {func(ctx context.Context, d block.Device) error { return d.Zero(ctx, 0, 4096, block.NoHole) }, 0},
		"write": {func(ctx context.Context, d block.Device) error {
			return d.WriteAt(ctx, bytes.Repeat([]byte{7}, 4096), 0, 0)
		}, 7},
		"write of the rest": {func(ctx context.Context, d block.Device) error {
			return d.WriteAt(ctx, bytes.Repeat([]byte{7}, 3996), 100, 0)
		}, 7},
		"longer write": {func(ctx context.Context, d block.Device) error {
			return d.WriteAt(ctx, bytes.Repeat([]byte{7}, 20_000), 0, block.FUA)
		}, 7},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			s := newShelf(t, blocktest.NewMachine(1), 64<<10, 4096)
			base := &slowBase{Pass: block.Pass{Device: s.base()}}
			d, err := Open(ctx, base, s.diff.Open(), false)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			base.during = func() {
				go func() { done <- c.do(ctx, d) }()
				synctest.Wait()
			}
			if err := d.WriteAt(ctx, bytes.Repeat([]byte{1}, 100), 0, 0); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 4096)
			if err := errors.Join(d.ReadAt(ctx, p, 0, 0), d.Close()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p[100:], bytes.Repeat([]byte{c.want}, 3996)) {
				t.Errorf("%s: the rest of the chunk is %02x, want %02x", name, p[100:104], c.want)
			}
		})
	}
}
