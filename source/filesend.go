package source

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/block"
)

var _ block.FileSender = (*file)(nil)

// CanSend asks the page cache. A hole that nobody has
// read is not in it: it is found by reading, and its zeros need not be sent.
func (d *file) CanSend(off int64, n int) bool {
	if d.direct != nil || d.noCachestat.Load() || d.gate.Enter() != nil {
		return false
	}
	defer d.gate.Leave()
	cached, err := d.kernel.cached(d.fd, off, int64(n))
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EOPNOTSUPP {
		d.noCachestat.Store(true)
	}
	page := int64(os.Getpagesize())
	return err == nil && cached == uint64((off+int64(n)+page-1)/page-off/page)
}

func (d *file) SendTo(sock uintptr, off int64, n int) (int, error) {
	if err := d.gate.Enter(); err != nil {
		return 0, err
	}
	defer d.gate.Leave()
	if err := d.info.CheckRead(off, n); err != nil {
		return 0, err
	}
	sent, err := d.kernel.send(int(sock), d.fd, off, n)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, err
	case err != nil:
		return 0, d.fail("send", off, err)
	case sent == 0 && n > 0:
		d.short.Store(true)
		return 0, d.errShort()
	}
	return sent, nil
}
