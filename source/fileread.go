package source

import (
	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// quickReads is how a file answers reads that must not wait.
type quickReads int

const (
	// quickNever: it cannot; Info().NoWait is false.
	quickNever quickReads = iota
	// quickCached: the kernel says whether the page cache has the range.
	quickCached
	// quickMemory: the file system lies in memory, and waits only where
	// pages have been swapped out; patience notices.
	quickMemory
)

// read is ReadAt inside the gate.
func (d *file) read(p []byte, off int64, flags block.Flags) error {
	if err := d.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	if flags&block.NoWait != 0 {
		switch d.quick {
		case quickCached:
			n, err := d.kernel.read(d.fd, p, off, unix.RWF_NOWAIT)
			if err != nil || n < len(p) {
				// Whatever it was, the same request without
				// NoWait finds out.
				return block.ErrWouldBlock
			}
			return nil
		case quickMemory:
			return d.readMemory(p, off)
		}
	}
	if d.direct != nil && !d.direct.fits(p) {
		return d.direct.read(p, off, d.readAll)
	}
	return d.readAll(p, off)
}

func (d *file) readMemory(p []byte, off int64) error {
	begin := d.since()
	if !d.patience.Allows(begin) {
		return block.ErrWouldBlock
	}
	err := d.readAll(p, off)
	d.patience.Charge(begin, d.since())
	return err
}

// readAll fills p, however long it takes.
func (d *file) readAll(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := d.kernel.read(d.fd, p, off, 0)
		if err != nil {
			// Direct I/O does not always read up to an end in the
			// middle of a sector.
			if size := d.checkSizeNow(); size != nil {
				return size
			}
			return d.fail("read", off, err)
		}
		if n == 0 {
			d.short.Store(true)
			return d.errShort()
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
