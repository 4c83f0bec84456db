package blocktest

import (
	"iter"

	"github.com/strata-storage/strata/block"
)

// maxExtents bounds how many extents of one request the tests look at.
const maxExtents = 1 << 20

// collectExtents reads seq to its end and checks that it covers the n bytes at
// off as Device.Extents promises.
func collectExtents(seq iter.Seq2[block.Extent, error], off, n int64) ([]block.Extent, error) {
	var list []block.Extent
	at := off
	for e, err := range seq {
		if err != nil {
			return nil, err
		}
		switch {
		case e.Off != at:
			return nil, broken("extents of %d %d: one begins at %d, want %d, where the last one ended", off, n, e.Off, at)
		case e.Len <= 0:
			return nil, broken("extents of %d %d: the one at %d has length %d, want at least 1", off, n, e.Off, e.Len)
		case e.Len > off+n-at:
			return nil, broken("extents of %d %d: one ends at %d, want at most %d", off, n, e.End(), off+n)
		case len(list) == maxExtents:
			return nil, broken("extents of %d %d: more than %d of them", off, n, maxExtents)
		}
		list, at = append(list, e), e.End()
	}
	if at != off+n {
		return nil, broken("extents of %d %d end at %d, want %d", off, n, at, off+n)
	}
	return list, nil
}
