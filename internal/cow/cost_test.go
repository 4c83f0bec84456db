package cow

import (
	"context"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// What requests cost the difference file.
func TestCost(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newShelf(t, blocktest.NewMachine(1), 1<<20, 4096)
	d := s.open(t)
	defer d.Close()
	write := func(off int64, n int, flags block.Flags) func() error {
		return func() error { return d.WriteAt(ctx, noise(n), off, flags) }
	}
	flush := func() error { return d.Flush(ctx) }
	const noted = 4096 + noteSize
	for _, c := range []struct {
		what string
		do   func() error
		want blocktest.Counts
	}{
		{"first write, which marks the file", write(0, 4096, 0), blocktest.Counts{Writes: 4, WriteBytes: noted + 2*slotSize, Flushes: 2}},
		{"first flush", flush, blocktest.Counts{Writes: 1, WriteBytes: slotSize, Flushes: 2}},
		{"idle flush", flush, blocktest.Counts{Flushes: 1}},
		{"write again", write(100, 3000, 0), blocktest.Counts{Writes: 1, WriteBytes: 3000}},
		{"durable write again", write(100, 3000, block.FUA), blocktest.Counts{Writes: 1, WriteBytes: 3000, FUAs: 1}},
		{"flush of old chunks", flush, blocktest.Counts{Flushes: 1}},
		{"part of a chunk", write(10_000, 100, 0), blocktest.Counts{Writes: 2, WriteBytes: noted}},
		{"long write", write(19_000, 50_000, 0), blocktest.Counts{Writes: 4, WriteBytes: 53_248 + noteSize}},
		{"flush of new chunks", flush, blocktest.Counts{Writes: 1, WriteBytes: slotSize, Flushes: 2}},
		{"durable first write", write(200_000&^4095, 4096, block.FUA), blocktest.Counts{Writes: 3, WriteBytes: noted + slotSize, Flushes: 2}},
		{"zero of what is not there", func() error { return d.Zero(ctx, 409_600, 409_600, 0) }, blocktest.Counts{Writes: 1, WriteBytes: noteSize}},
		{"zero of what is there", func() error { return d.Zero(ctx, 0, 409_600, block.FastZero) }, blocktest.Counts{Writes: 1, WriteBytes: noteSize, Zeros: 1}},
		{"zero again", func() error { return d.Zero(ctx, 100, 300_000, 0) }, blocktest.Counts{}},
		{"trim", func() error { return d.Trim(ctx, 1, 819_000, 0) }, blocktest.Counts{}},
		{"zero with storage", func() error { return d.Zero(ctx, 0, 8192, block.NoHole) }, blocktest.Counts{Writes: 1, WriteBytes: noteSize, Zeros: 1}},
		{"read", func() error { return d.ReadAt(ctx, make([]byte, 4096), 0, 0) }, blocktest.Counts{Reads: 1, ReadBytes: 4096}},
		{"read of zeros", func() error { return d.ReadAt(ctx, make([]byte, 90_000), 8192, 0) }, blocktest.Counts{}},
	} {
		before := s.diff.Counts()
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if got := minus(s.diff.Counts(), before); got != c.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.what, got, c.want)
		}
	}
}

func minus(a, b blocktest.Counts) blocktest.Counts {
	return blocktest.Counts{
		Reads: a.Reads - b.Reads, Writes: a.Writes - b.Writes, Zeros: a.Zeros - b.Zeros, Trims: a.Trims - b.Trims,
		Flushes: a.Flushes - b.Flushes, FUAs: a.FUAs - b.FUAs,
		ReadBytes: a.ReadBytes - b.ReadBytes, WriteBytes: a.WriteBytes - b.WriteBytes,
	}
}

// Requests that would wait say so before they touch anything.
func TestNoWait(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, c := range []struct{ base, diff bool }{{true, false}, {false, true}, {true, true}} {
		s := newShelf(t, blocktest.NewMachine(1), 1<<20, 4096)
		d, err := Open(ctx, patient{s.base(), c.base}, patient{s.diff.Open(), c.diff}, false)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 8192)
		if err := errors.Join(d.WriteAt(ctx, p, 0, 0), d.Zero(ctx, 16384, 8192, 0)); err != nil {
			t.Fatal(err)
		}
		for off, quick := range map[int64]bool{0: c.diff, 4096: c.diff && c.base, 8192: c.base, 16384: true} {
			err := d.ReadAt(ctx, p, off, block.NoWait)
			if quick != (err == nil) || err != nil && err != block.ErrWouldBlock {
				t.Errorf("%+v: read at %d: %v", c, off, err)
			}
		}
		for off, quick := range map[int64]bool{0: c.diff, 4096: false, 65536: false, 16384: false} {
			err := d.WriteAt(ctx, p, off, block.NoWait)
			if quick != (err == nil) || err != nil && err != block.ErrWouldBlock {
				t.Errorf("%+v: write at %d: %v", c, off, err)
			}
		}
		if err := d.WriteAt(ctx, p, 0, block.NoWait|block.FUA); err != block.ErrWouldBlock {
			t.Errorf("%+v: durable write of a chunk that is not yet: %v", c, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// patient is a device that never waits and says so if it is set.
type patient struct {
	block.Device
	noWait bool
}

func (p patient) Info() block.Info {
	i := p.Device.Info()
	i.NoWait = p.noWait
	return i
}

func (p patient) ReadAt(ctx context.Context, b []byte, off int64, flags block.Flags) error {
	return p.Device.ReadAt(ctx, b, off, flags&^block.NoWait)
}

func (p patient) WriteAt(ctx context.Context, b []byte, off int64, flags block.Flags) error {
	return p.Device.WriteAt(ctx, b, off, flags&^block.NoWait)
}
