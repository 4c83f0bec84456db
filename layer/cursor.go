package layer

import (
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
)

// A cursor walks along the extents of a device at the pace of its reader, for
// layers that must look at several devices at once.
type cursor struct {
	next func() (block.Extent, error, bool)
	end  func()
	cur  block.Extent
	err  error
}

func (c *cursor) start(seq iter.Seq2[block.Extent, error]) { c.next, c.end = iter.Pull2(seq) }

func (c *cursor) stop() { c.end() }

// at returns the status of the byte at off and how many bytes from there on
// have it too. Offsets must not decrease from call to call. After an error
// every call returns it.
func (c *cursor) at(off int64) (status uint64, n int64, err error) {
	for c.err == nil && c.cur.End() <= off {
		e, err, ok := c.next()
		switch {
		case err != nil:
			c.err = err
		case !ok:
			c.err = fmt.Errorf("extents end at %d, expected more: %w", c.cur.End(), block.ErrIO)
		default:
			c.cur = e
		}
	}
	if c.err != nil {
		return 0, 0, c.err
	}
	return c.cur.Status, c.cur.End() - off, nil
}
