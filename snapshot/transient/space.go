package transient

import (
	"fmt"

	"github.com/strata-storage/strata/block"
)

// space knows which places of the store device are in use, by number.
type space struct {
	refs []int32
	// free is the number of places without use, rover where to look for one.
	free, rover int64
	// freed are those that the next commit sets free.
	freed []int64
}

func newSpace(places int64) space { return space{refs: make([]int32, places), free: places} }

func (s *space) uses(i int64) int32 { return s.refs[i] }

// alloc returns up to n adjacent places that nobody used.
func (s *space) alloc(n int64) (first, count int64, err error) {
	if s.free == 0 {
		return 0, 0, fmt.Errorf("all %d chunks of the store are in use: %w", len(s.refs), block.ErrNoSpace)
	}
	size := int64(len(s.refs))
	for s.refs[s.rover] != 0 {
		s.rover = (s.rover + 1) % size
	}
	first = s.rover
	for count < n && first+count < size && s.refs[first+count] == 0 {
		s.refs[first+count] = 1
		count++
	}
	s.rover = (first + count) % size
	s.free -= count
	return first, count, nil
}

// drop ends one use of a place.
func (s *space) drop(i int64) {
	if s.refs[i]--; s.refs[i] == 0 {
		// It stays taken until it is released.
		s.refs[i] = -1
		s.freed = append(s.freed, i)
	}
}

// release makes places free.
func (s *space) release(places []int64) {
	for _, i := range places {
		s.refs[i] = 0
	}
	s.free += int64(len(places))
}
