package cow

import (
	"context"
	"iter"

	"github.com/strata-storage/strata/block"
)

func (d *device) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := d.gate.Enter(); err != nil {
		return block.FailExtents(err)
	}
	defer d.gate.Leave()
	if err := d.info.CheckExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(d.extents(ctx, off, off+n))
}

// extents yields runs of chunks of one state, those of absent chunks as the
// base tells about them.
func (d *device) extents(ctx context.Context, off, end int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		for off < end {
			s, n, err := d.look(off, end-off)
			switch {
			case err != nil:
				yield(block.Extent{}, err)
				return
			case s.inFile() && !yield(block.Extent{Off: off, Len: n}, nil):
				return
			case s == zero && !yield(block.Extent{Off: off, Len: n, Status: block.Hole | block.Zero}, nil):
				return
			case s == absent:
				for e, err := range d.base.Extents(ctx, block.Allocation, off, n) {
					if !yield(e, err) || err != nil {
						return
					}
				}
			}
			off += n
		}
	}
}

// look is run as a request of its own, so that the device can be closed while
// a caller looks at the extents.
func (d *device) look(off, n int64) (state, int64, error) {
	if err := d.gate.Enter(); err != nil {
		return 0, 0, err
	}
	defer d.gate.Leave()
	s, k := d.run(off, n)
	return s, k, nil
}
