package block

import (
	"iter"
)

// OneExtent is the sequence of a single extent, empty if n is 0.
func OneExtent(off, n int64, status uint64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		if n > 0 {
			yield(Extent{off, n, status}, nil)
		}
	}
}

// FailExtents is the sequence that consists of err.
func FailExtents(err error) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) { yield(Extent{}, err) }
}

// MergeExtents joins neighbours of equal status in seq.
func MergeExtents(seq iter.Seq2[Extent, error]) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		var last Extent
		for e, err := range seq {
			switch {
			case err != nil:
				if last.Len == 0 || yield(last, nil) {
					yield(Extent{}, err)
				}
				return
			case last.Len > 0 && last.Status == e.Status:
				last.Len += e.Len
				continue
			case last.Len > 0 && !yield(last, nil):
				return
			}
			last = e
		}
		if last.Len > 0 {
			yield(last, nil)
		}
	}
}

// ShiftExtents moves every extent of seq by delta bytes.
func ShiftExtents(seq iter.Seq2[Extent, error], delta int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for e, err := range seq {
			e.Off += delta
			if !yield(e, err) {
				return
			}
		}
	}
}

// CheckExtents is the first thing that Extents does on a device without
// contexts of its own: it reports whether the request is allowed.
func (i *Info) CheckExtents(mc string, off, n int64) error {
	if mc != Allocation {
		return unknownContext(mc)
	}
	return i.CheckRange(off, n)
}

// plainExtents is Extents of a device that has storage everywhere.
func plainExtents(gate *Gate, info *Info, mc string, off, n int64) iter.Seq2[Extent, error] {
	if err := gate.Enter(); err != nil {
		return FailExtents(err)
	}
	defer gate.Leave()
	if err := info.CheckExtents(mc, off, n); err != nil {
		return FailExtents(err)
	}
	return OneExtent(off, n, 0)
}
