package legacy

import (
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
)

// A span is a range of chunks of the store device.
type span struct{ from, to int64 }

// spans are in order and do not touch, unless they are said to be in none. They
// may have chunks of metadata in them, which do not count.
type spans []span

// add adds a range of which nothing is there.
func (s *spans) add(x span) {
	if x.from >= x.to {
		return
	}
	i, _ := slices.BinarySearchFunc(*s, x.from, func(y span, from int64) int { return int(min(max(y.from-from, -1), 1)) })
	*s = slices.Insert(*s, i, x)
	if i+1 < len(*s) && (*s)[i+1].from <= x.to {
		(*s)[i].to = max(x.to, (*s)[i+1].to)
		*s = slices.Delete(*s, i+1, i+2)
	}
	if i > 0 && (*s)[i-1].to >= x.from {
		(*s)[i-1].to = max((*s)[i-1].to, (*s)[i].to)
		*s = slices.Delete(*s, i, i+1)
	}
}

// count returns the number of chunks for data.
func (l layout) count(s spans) (n int64) {
	for _, x := range s {
		n += l.data(x.from, x.to)
	}
	return n
}

// space knows which chunks for data are free. The lowest are given out first.
type space struct {
	layout
	free spans
	// left is the number of chunks in free.
	left int64
}

// newSpace returns the space of a device on which the chunks in used, in order,
// are taken.
func newSpace(l layout, used []int64) space {
	s := space{layout: l}
	from := int64(2)
	for _, n := range used {
		if s.data(from, n) > 0 {
			s.free = append(s.free, span{from, n})
		}
		from = n + 1
	}
	if s.data(from, s.total) > 0 {
		s.free = append(s.free, span{from, s.total})
	}
	s.left = s.count(s.free)
	return s
}

// spare returns how many chunks may still be given out.
func (s *space) spare() int64 {
	return max(s.left-(s.data(2, s.total)-s.limit()), 0)
}

// alloc returns the first of up to n adjacent chunks.
func (s *space) alloc(n int64) (first, count int64, err error) {
	n = min(n, s.spare())
	for n > 0 && len(s.free) > 0 {
		x := &s.free[0]
		for x.from < x.to && !s.isData(x.from) {
			x.from++
		}
		first = x.from
		for count < n && x.from < x.to && s.isData(x.from) {
			x.from++
			count++
		}
		if s.data(x.from, x.to) == 0 {
			s.free = s.free[1:]
		}
		if count > 0 {
			s.left -= count
			return first, count, nil
		}
	}
	return 0, 0, fmt.Errorf("all %d chunks of the store are in use: %w", s.limit(), block.ErrNoSpace)
}

// take makes a chunk used, and reports whether it was free.
func (s *space) take(n int64) bool {
	i, found := slices.BinarySearchFunc(s.free, n, func(x span, n int64) int {
		switch {
		case x.to <= n:
			return -1
		case x.from > n:
			return 1
		}
		return 0
	})
	if !found {
		return false
	}
	x := s.free[i]
	var rest spans
	for _, y := range []span{{x.from, n}, {n + 1, x.to}} {
		if s.data(y.from, y.to) > 0 {
			rest = append(rest, y)
		}
	}
	s.free = slices.Replace(s.free, i, i+1, rest...)
	s.left--
	return true
}

// release makes chunks free that were not.
func (s *space) release(x span) {
	s.left += s.data(x.from, x.to)
	s.free.add(x)
}
