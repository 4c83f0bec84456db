// Package cow makes a writable device of one that is never written: what
// changes goes to a difference file, chunk by chunk, each to the place in the
// file that corresponds to its place on the device, and a map in the file
// tells which chunks are there.
//
// A difference file is any device that is large enough and whose holes cost
// nothing; see [FileSize]. It outlives crashes at any moment: what was flushed
// is there, and nothing shows that was never written. docs/format-cow.md
// describes its content.
package cow

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/rangelock"
)

// Format makes diff an empty difference file for base, with chunks of chunk
// bytes. What diff held is lost. It is durable when Format returns.
func Format(ctx context.Context, base, diff block.Device, chunk int64) error {
	if err := checkDevices(base, diff, base.Info().Size, chunk); err != nil {
		return err
	}
	f, err := fingerprint(ctx, base)
	if err != nil {
		return fmt.Errorf("looking at the base: %w", err)
	}
	return format(ctx, diff, header{size: base.Info().Size, chunk: chunk, base: f})
}

// Open returns base as changed by the difference file in diff. The device owns
// both and never writes to base. Nobody else may write to either. It is
// read-only if readOnly is set or diff is read-only.
//
// Close makes all that was written durable.
func Open(ctx context.Context, base, diff block.Device, readOnly bool) (block.Device, error) {
	b, f := base.Info(), diff.Info()
	readOnly = readOnly || f.ReadOnly
	s, err := openFor(ctx, base, diff, readOnly)
	if err != nil {
		return nil, err
	}
	d := &device{
		base: base, diff: diff, store: s,
		mask: s.head.chunk - 1, shift: bits.TrailingZeros64(uint64(s.head.chunk)),
		baseWaits: !b.NoWait, diffWaits: !f.NoWait,
	}
	d.info = block.Info{
		Size:           b.Size,
		MinBlock:       max(b.MinBlock, f.MinBlock),
		PreferredBlock: max(b.PreferredBlock, f.PreferredBlock, int(s.head.chunk), 4096),
		MaxBlock:       smaller(b.MaxBlock, f.MaxBlock),
		ReadOnly:       readOnly,
		Rotational:     b.Rotational || f.Rotational,
		CheapExtents:   b.CheapExtents,
		NoWait:         true,
	}
	if !d.info.ReadOnly {
		d.info.Trims, d.info.FastZeros, d.info.NativeFUA = true, true, f.NativeFUA
	}
	d.chunks.New = func() any { p := make([]byte, d.mask+1); return &p }
	return d, nil
}

// openFor opens a difference file and checks that base is the one that it was
// made for.
func openFor(ctx context.Context, base, diff block.Device, readOnly bool) (*store, error) {
	s, err := openGood(ctx, diff, readOnly)
	if err != nil {
		return nil, err
	}
	return s, s.checkBase(ctx, base)
}

// checkBase reports whether base is the one of the file.
func (s *store) checkBase(ctx context.Context, base block.Device) error {
	if err := checkDevices(base, s.diff, s.head.size, s.head.chunk); err != nil {
		return err
	}
	if s.head.merging {
		// The base is between two contents, of which the file has the
		// second.
		return nil
	}
	f, err := fingerprint(ctx, base)
	if err != nil {
		return fmt.Errorf("looking at the base: %w", err)
	}
	if f != s.head.base {
		return otherBase(", or this one has been written to: its fingerprint is %v, that of the base was %v", f, s.head.base)
	}
	return nil
}

// checkDevices reports whether base can be the base of a difference file on
// diff for this size, with chunks of this size.
func checkDevices(base, diff block.Device, size, chunk int64) error {
	info := base.Info()
	unit := max(int64(info.MinBlock), int64(diff.Info().MinBlock), 1)
	switch {
	case info.Size != size:
		return otherBase(": this one has %d bytes, that one %d", info.Size, size)
	case unit > chunk:
		return fmt.Errorf("chunk is %d bytes, must be at least %d, the block size of the devices: %w", chunk, unit, block.ErrInvalid)
	case size%unit != 0:
		return fmt.Errorf("the base has %d bytes, must be a multiple of %d, the block size of the difference file's device: %w", size, unit, block.ErrInvalid)
	case info.MaxBlock > 0 && info.MaxBlock < MaxChunk:
		return fmt.Errorf("the base takes at most %d bytes at once, must be %d: %w", info.MaxBlock, MaxChunk, block.ErrInvalid)
	}
	return nil
}

// smaller returns the lesser of two limits of which 0 is none.
func smaller(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// A device is a base with a difference file.
//
// A chunk in state data is read and written in place, without a lock. Whoever
// changes the state of chunks holds them in first: shared if it replaces them
// as a whole, alone if it keeps a part of them, which it must copy. A state
// becomes arriving when the data are in the file, and data when a note says
// so: until then nobody may rely on the chunk being found again.
type device struct {
	gate  block.Gate
	info  block.Info
	base  block.Device
	diff  block.Device
	store *store
	// mask and shift are of the chunk size.
	mask  int64
	shift int
	// baseWaits and diffWaits: the device may block whatever the flags.
	baseWaits, diffWaits bool
	first                rangelock.Lock
	// chunks are buffers of the size of a chunk.
	chunks sync.Pool
}

func (d *device) Info() block.Info { return d.info }

// span returns the chunks that n bytes at off touch: from the first up to but
// not including end. n is not 0.
func (d *device) span(off, n int64) (first, end int64) {
	return off >> d.shift, (off+n-1)>>d.shift + 1
}

// run returns the state of the byte at off and how many of the n bytes from
// there on have it too.
func (d *device) run(off, n int64) (state, int64) {
	i, end := d.span(off, n)
	s, k := d.store.states.run(i, end)
	return s, min((i+k)<<d.shift-off, n)
}

func (d *device) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		s, n := d.run(off, int64(len(p)))
		if err := d.readRun(ctx, s, p[:n], off, flags); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readRun reads bytes that are all in state s.
func (d *device) readRun(ctx context.Context, s state, p []byte, off int64, flags block.Flags) error {
	nowait := flags&block.NoWait != 0
	switch s {
	case zero:
		clear(p)
		return nil
	case data, arriving:
		if nowait && d.diffWaits {
			return block.ErrWouldBlock
		}
		return d.diff.ReadAt(ctx, p, d.store.layout.data+off, flags)
	}
	if nowait && d.baseWaits {
		return block.ErrWouldBlock
	}
	return d.base.ReadAt(ctx, p, off, flags)
}

func (d *device) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if d.info.ReadOnly {
		return nil
	}
	return d.store.sync(ctx)
}

// Close makes the states durable as well: those that only the memory knows
// would be lost otherwise, and with them what was written.
func (d *device) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	var err error
	if !d.info.ReadOnly {
		err = d.store.close(context.Background())
	}
	return errors.Join(err, d.diff.Close(), d.base.Close())
}
