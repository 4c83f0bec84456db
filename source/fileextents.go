package source

import (
	"errors"
	"iter"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// extents yields what the file system tells about [off, end). A range that is
// allocated and never written counts as a hole, as it does for lseek.
func (d *file) extents(off, end int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		known := false // there is data at off
		for off < end {
			e, err := d.extent(off, end, known)
			if !yield(e, err) || err != nil {
				return
			}
			known = e.Status != 0
			off = e.End()
		}
	}
}

// extent returns a prefix of [off, end) of one status. It is a request of its
// own, so that the device can be closed while a caller looks at the extents.
func (d *file) extent(off, end int64, data bool) (block.Extent, error) {
	e := block.Extent{Off: off, Len: end - off}
	if err := d.gate.Enter(); err != nil {
		return e, err
	}
	defer d.gate.Leave()
	if !d.info.CheapExtents {
		return e, nil
	}
	if !data {
		at, err := d.kernel.seek(d.side, off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			// No data up to the end of the file, wherever that is.
			e.Status = block.Hole | block.Zero
			return e, d.checkSizeNow()
		case err != nil:
			return e, d.fail("look for data", off, err)
		case at > off:
			e.Status = block.Hole | block.Zero
			e.Len = min(at, end) - off
			return e, nil
		}
	}
	at, err := d.kernel.seek(d.side, off, unix.SEEK_HOLE)
	switch {
	case errors.Is(err, unix.ENXIO):
		return e, d.checkSizeNow()
	case err != nil:
		return e, d.fail("look for a hole", off, err)
	case at <= off:
		// A hole has just been punched here. Calling a little of it
		// data is not wrong, and goes on.
		at = off + pageSize
	}
	e.Len = min(at, end) - off
	return e, nil
}
