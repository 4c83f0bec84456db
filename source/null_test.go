package source_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/source"
)

func TestNull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, err := source.Null(ctx, source.NullOptions{Size: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte{9}, 5000)
	off := int64(math.MaxInt64 - 5000)
	if err := d.WriteAt(ctx, p, off, block.FUA|block.NoWait); err != nil {
		t.Error(err)
	}
	if err := d.ReadAt(ctx, p, off, block.NoWait); err != nil || !block.IsZero(p) {
		t.Error("not zeros", err)
	}
	if err := d.ReadAt(ctx, p, off+1, 0); !errors.Is(err, block.ErrRange) {
		t.Error(err)
	}
	if err := errors.Join(d.Zero(ctx, 0, off, 0), d.Trim(ctx, 0, off, 0), d.Flush(ctx)); err != nil {
		t.Error(err)
	}
	if got := extentsOf(t, d, 5, 100); len(got) != 1 || got[0] != (block.Extent{Off: 5, Len: 100, Status: hole}) {
		t.Error(got)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.WriteAt(ctx, p, 0, 0); !errors.Is(err, block.ErrClosed) {
		t.Error(err)
	}
	if _, err := source.Null(ctx, source.NullOptions{Size: -5}); !errors.Is(err, block.ErrInvalid) {
		t.Error(err)
	}
}
