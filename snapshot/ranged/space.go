package ranged

import (
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// Types of segments.
const (
	segFree byte = iota
	segLog
	segNode
	segData
)

// space knows what every segment is for, and which slots, places for a chunk,
// of those for data are taken.
type space struct {
	kind  []byte
	count [4]int
	// taken has a bit for each slot, used their number by segment.
	taken []uint64
	used  []int32
	// more counts the uses of slots beyond the first.
	more map[int64]int32
	// all is the number of slots that are taken, freed are those among them
	// that nobody has used since the last commit was made, waiting the number
	// of those that have not come back since then.
	all, waiting int64
	freed        []int64
	rover        int64
	per          int64
}

func newSpace(g *geometry) space {
	s := space{kind: make([]byte, g.segments), used: make([]int32, g.segments), taken: make([]uint64, (g.slots()+63)/64),
		more: map[int64]int32{}, per: g.perSegment()}
	s.count[segFree] = int(g.segments)
	return s
}

func (s *space) has(slot int64) bool { return s.taken[slot/64]&(1<<(slot%64)) != 0 }

func (s *space) turn(i int, kind byte) {
	s.count[s.kind[i]]--
	s.count[kind]++
	s.kind[i] = kind
}

// segment finds a free segment and gives it a type.
func (s *space) segment(kind byte) (int, bool) {
	for i, k := range s.kind {
		if k == segFree {
			s.turn(i, kind)
			return i, true
		}
	}
	return 0, false
}

// claim takes slots that must be free.
func (s *space) claim(slot, n int64) error {
	for i := slot; i < slot+n; i++ {
		seg := int(i / s.per)
		if k := s.kind[seg]; s.has(i) || k != segFree && k != segData {
			return fmt.Errorf("place %d is in use: %w", i, snapshot.ErrDamaged)
		}
		s.take(i)
	}
	return nil
}

func (s *space) take(slot int64) {
	seg := int(slot / s.per)
	if s.kind[seg] == segFree {
		s.turn(seg, segData)
	}
	s.taken[slot/64] |= 1 << (slot % 64)
	s.used[seg]++
	s.all++
}

// alloc takes up to n adjacent slots, leaving reserve segments free.
func (s *space) alloc(n int64, reserve int) (first, count int64, err error) {
	for range len(s.kind) + 1 {
		seg := int(s.rover / s.per)
		open := s.kind[seg] == segData && int64(s.used[seg]) < s.per || s.kind[seg] == segFree && s.count[segFree] > reserve
		end := int64(seg+1) * s.per
		for ; open && s.rover < end; s.rover++ {
			if s.has(s.rover) {
				if count > 0 {
					break
				}
				continue
			}
			if count == n {
				break
			}
			if count == 0 {
				first = s.rover
			}
			s.take(s.rover)
			count++
		}
		if !open {
			s.rover = end
		}
		if s.rover >= int64(len(s.kind))*s.per {
			s.rover = 0
		}
		if count > 0 {
			return first, count, nil
		}
	}
	return 0, 0, fmt.Errorf("the store has no free chunk: %w", block.ErrNoSpace)
}

// drop ends one use of a slot.
func (s *space) drop(slot int64) {
	switch n := s.more[slot]; n {
	case 0:
		s.freed = append(s.freed, slot)
	case 1:
		delete(s.more, slot)
	default:
		s.more[slot] = n - 1
	}
}

// release makes slots free.
func (s *space) release(slots []int64) {
	for _, i := range slots {
		seg := int(i / s.per)
		s.taken[i/64] &^= 1 << (i % 64)
		s.all--
		if s.used[seg]--; s.used[seg] == 0 {
			s.turn(seg, segFree)
		}
	}
}
