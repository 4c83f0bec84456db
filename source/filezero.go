package source

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

const (
	punchHole = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	zeroRange = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
)

// zero is Zero inside the gate.
func (d *file) zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := d.mayChange(off, n); err != nil || n == 0 {
		return err
	}
	from, to := d.whole(off, off+n)
	err := d.zeroWhole(from, to-from, flags)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && flags&block.FastZero != 0:
		return block.ErrNotSupported
	case errors.Is(err, unix.EOPNOTSUPP):
		from, to = off+n, off+n
	case err != nil:
		return d.fail("zero", off, err)
	}
	if err := d.writeZeros(ctx, off, from); err != nil {
		return err
	}
	if err := d.writeZeros(ctx, to, off+n); err != nil {
		return err
	}
	return d.flushIf(flags)
}

// zeroWhole zeroes a range that fallocate can take, or returns EOPNOTSUPP
// having changed nothing.
func (d *file) zeroWhole(off, n int64, flags block.Flags) error {
	err := error(unix.EOPNOTSUPP)
	if flags&block.NoHole == 0 {
		err = d.allocate(&d.noPunch, punchHole, off, n)
	}
	// A block device without a command for it has its zeros written by the
	// kernel, which is not fast.
	if errors.Is(err, unix.EOPNOTSUPP) && (!d.device || flags&block.FastZero == 0) {
		err = d.allocate(&d.noZeroing, zeroRange, off, n)
	}
	return err
}

// trim is Trim inside the gate. It punches a hole in a block device as well:
// BLKDISCARD allows the device to return anything afterwards.
func (d *file) trim(off, n int64, flags block.Flags) error {
	if err := d.mayChange(off, n); err != nil || n == 0 {
		return err
	}
	from, to := d.whole(off, off+n)
	err := d.allocate(&d.noPunch, punchHole, from, to-from)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return d.fail("trim", off, err)
	}
	return d.flushIf(flags)
}

func (d *file) mayChange(off, n int64) error {
	if err := d.info.CheckChange(off, n); err != nil {
		return err
	}
	return d.checkSizeNow()
}

// whole returns the part of a range that fallocate takes: everything of a
// file, whole sectors of a block device.
func (d *file) whole(from, to int64) (int64, int64) {
	if !d.device {
		return from, to
	}
	s := int64(d.sector)
	first, last := (from+s-1)/s*s, to/s*s
	if first >= last {
		return to, to
	}
	return first, last
}

// allocate is fallocate that remembers in missing that a mode does not exist.
func (d *file) allocate(missing *atomic.Bool, mode uint32, off, n int64) error {
	if n == 0 {
		return nil
	}
	if missing.Load() {
		return unix.EOPNOTSUPP
	}
	err := d.kernel.allocate(d.fd, mode, off, n)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENODEV) {
		err = unix.EOPNOTSUPP
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		missing.Store(true)
	}
	return err
}

// writeZeros writes zeros from from up to to.
func (d *file) writeZeros(ctx context.Context, from, to int64) error {
	return block.WriteZeros(ctx, ungated{d}, from, to-from, 0)
}

// ungated is a file seen from a request that has entered the gate.
type ungated struct{ *file }

func (d ungated) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return d.write(p, off, flags)
}
