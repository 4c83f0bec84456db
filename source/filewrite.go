package source

import (
	"errors"
	"io"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// quickWrite bounds the length in bytes of a write that is tried without
// waiting.
const quickWrite = 256 << 10

// write is WriteAt inside the gate.
func (d *file) write(p []byte, off int64, flags block.Flags) error {
	if err := d.info.CheckWrite(off, len(p)); err != nil {
		return err
	}
	now := d.since()
	if err := d.checkSize(now); err != nil {
		return err
	}
	durable := d.always || flags&block.FUA != 0
	if flags&block.NoWait != 0 && d.quick != quickNever {
		if durable || len(p) > quickWrite {
			return block.ErrWouldBlock
		}
		return d.writeQuick(p, off, now)
	}
	put := d.writeAll
	if durable {
		put = d.writeDurable
	}
	if d.direct != nil && !d.direct.fits(p) {
		return d.direct.write(p, off, put)
	}
	return put(p, off)
}

// writeQuick writes to the page cache if that does not wait. XFS and btrfs
// say so themselves. Elsewhere a write of whole pages hardly ever waits, as
// nothing has to be read for it, but the kernel holds it up when too much of
// the memory is dirty: it is tried as long as patience lasts.
func (d *file) writeQuick(p []byte, off, now int64) error {
	if !d.noQuick.Load() {
		n, err := d.kernel.write(d.fd, p, off, unix.RWF_NOWAIT)
		switch {
		case err == nil && n == len(p):
			return nil
		case !errors.Is(err, unix.EOPNOTSUPP):
			return block.ErrWouldBlock
		}
		d.noQuick.Store(true)
	}
	if (off|int64(len(p)))%pageSize != 0 || !d.patience.Allows(now) {
		return block.ErrWouldBlock
	}
	err := d.writeAll(p, off)
	d.patience.Charge(now, d.since())
	return err
}

// writeAll writes p, however long it takes.
func (d *file) writeAll(p []byte, off int64) error {
	return d.writeTo(d.fd, p, off, 0)
}

func (d *file) writeTo(fd int, p []byte, off int64, flags int) error {
	for len(p) > 0 {
		n, err := d.kernel.write(fd, p, off, flags)
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			if gone := d.vanished(err); gone != nil {
				return gone
			}
			return d.fail("write", off, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
