package nbd

import (
	"context"
	"iter"
	"slices"

	"github.com/strata-storage/strata/block"
)

// Extents implements block.Device. If the server tells nothing of the context
// block.Allocation, everything counts as data.
func (c *Client) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if !slices.Contains(c.export.Contexts, mc) {
		if err := c.enter(mc, off, n); err != nil {
			return block.FailExtents(err)
		}
		c.gate.Leave()
		return block.OneExtent(off, n, 0)
	}
	return func(yield func(block.Extent, error) bool) {
		off, n := off, n
		for {
			extents, err := c.status(ctx, mc, off, n)
			if err != nil {
				yield(block.Extent{}, err)
				return
			}
			for _, e := range extents {
				x := block.Extent{Off: off, Len: int64(e.n), Status: e.status}
				if mc == block.Allocation {
					x.Status &= block.Hole | block.Zero
				}
				if !yield(x, nil) {
					return
				}
				off, n = off+x.Len, n-x.Len
			}
			if n == 0 {
				return
			}
		}
	}
}

// enter passes the gate with a request for extents if it is allowed.
func (c *Client) enter(mc string, off, n int64) error {
	if err := c.gate.Enter(); err != nil {
		return err
	}
	if slices.Contains(c.export.Contexts, mc) {
		mc = block.Allocation // known just as well
	}
	if err := c.info.CheckExtents(mc, off, n); err != nil {
		c.gate.Leave()
		return err
	}
	return nil
}

// status asks once: it returns extents of the first part of the range, at
// least one unless n is 0.
func (c *Client) status(ctx context.Context, mc string, off, n int64) ([]statusExtent, error) {
	if err := c.enter(mc, off, n); err != nil {
		return nil, err
	}
	defer c.gate.Leave()
	if n == 0 {
		return nil, nil
	}
	k, err := c.issue(ctx, call{cmd: cmdBlockStatus, off: uint64(off), n: uint64(min(n, c.long)), context: mc})
	if err != nil {
		return nil, err
	}
	// The caller may take its time with them, the call must not.
	extents := slices.Clone(k.reply.extents)
	c.calls.give(k)
	return extents, nil
}
