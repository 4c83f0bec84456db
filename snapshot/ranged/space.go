package ranged

import (
	"fmt"
	"math/bits"

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

// A segment of data has a bit for each slot that the map uses, one of nodes for
// each block of the trees. The bits of data are on the device, and in memory
// when they are needed.
type segment struct {
	kind byte
	// dirty: changed since the last checkpoint; frozen: a checkpoint that is
	// being made has the same bits.
	dirty, frozen bool
	used, busy    int32
	bits          []uint64
	// held has a bit for each of the busy slots: those that the map does not
	// use but somebody, open plans and readers of what was freed.
	held []uint64
	// addr is the block with the bits, if some but not all are set.
	addr int64
}

// space knows what every segment is for.
type space struct {
	geo   *geometry
	segs  []segment
	count [4]int
	per   int64
	// busy is the number of busy slots.
	busy int64
	// all is the number of slots that the map uses, nodes that of blocks.
	all, nodes int64
	// freed are the slots that the map has left since the last commit was
	// made, waiting the number of those before that are not free yet.
	freed   []int64
	waiting int64
	rover   int64
	// nodeRover is the segment where the last node was put.
	nodeRover int
}

func newSpace(g *geometry) space {
	s := space{geo: g, segs: make([]segment, g.segments), per: g.perSegment()}
	s.count[segFree] = int(g.segments)
	return s
}

// A coldError says that the bits of a segment must be read first.
type coldError int

func (e coldError) Error() string { return fmt.Sprintf("segment %d is not in memory", int(e)) }

func (s *space) turn(i int, kind byte) {
	x := &s.segs[i]
	s.count[x.kind]--
	s.count[kind]++
	x.kind, x.bits, x.held, x.used, x.busy = kind, nil, nil, 0, 0
	switch kind {
	case segNode:
		x.bits = make([]uint64, (s.geo.segment/blockSize+63)/64)
	case segData:
		x.bits = make([]uint64, (s.per+63)/64)
	}
}

// segment finds a free segment and gives it a type.
func (s *space) segment(kind byte) (int, bool) {
	for i := range s.segs {
		if s.segs[i].kind == segFree {
			s.turn(i, kind)
			return i, true
		}
	}
	return 0, false
}

// warm makes the bits of a segment of data ready to be changed, if they need
// not be read.
func (s *space) warm(i int) bool {
	x := &s.segs[i]
	if x.bits == nil && x.used > 0 && int64(x.used) < s.per {
		return false
	}
	if x.bits == nil {
		x.bits = make([]uint64, (s.per+63)/64)
		for j := range int64(x.used) {
			x.bits[j/64] |= 1 << (j % 64)
		}
	}
	if x.frozen {
		x.bits, x.frozen = append([]uint64(nil), x.bits...), false
	}
	return true
}

// cold returns an error if the bits of one of n slots must be read.
func (s *space) cold(slot, n int64) error {
	for i := int(slot / s.per); i <= int((slot+n-1)/s.per); i++ {
		if k := s.segs[i].kind; k == segData && !s.warm(i) {
			return coldError(i)
		}
	}
	return nil
}

// claim makes a slot one that the map uses. Its segment is warm.
func (s *space) claim(slot int64) error {
	i := int(slot / s.per)
	x := &s.segs[i]
	if x.kind == segFree {
		s.turn(i, segData)
	}
	word, bit := &x.bits, uint64(1)<<(slot%s.per%64)
	at := slot % s.per / 64
	if x.kind != segData || (*word)[at]&bit != 0 {
		return fmt.Errorf("place %d is in use: %w", slot, snapshot.ErrDamaged)
	}
	s.unhold(slot)
	x.bits[at] |= bit
	x.dirty = true
	x.used++
	s.all++
	return nil
}

// leave makes a slot one that the map does not use any more. It stays busy.
func (s *space) leave(slot int64) error {
	x := &s.segs[slot/s.per]
	at, bit := slot%s.per/64, uint64(1)<<(slot%s.per%64)
	if x.kind != segData || x.bits[at]&bit == 0 {
		return fmt.Errorf("place %d is freed but not in use: %w", slot, snapshot.ErrDamaged)
	}
	x.bits[at] &^= bit
	x.dirty = true
	x.used--
	s.all--
	s.hold(slot)
	s.freed = append(s.freed, slot)
	return nil
}

func (s *space) hold(slot int64) {
	x := &s.segs[slot/s.per]
	if x.held == nil {
		x.held = make([]uint64, (s.per+63)/64)
	}
	at := slot % s.per
	x.held[at/64] |= 1 << (at % 64)
	x.busy++
	s.busy++
}

// isBusy reports whether a slot of a segment is busy.
func (x *segment) isBusy(at int64) bool { return x.busy > 0 && x.held[at/64]&(1<<(at%64)) != 0 }

// unhold makes a slot one that is not busy, and reports whether it was.
func (s *space) unhold(slot int64) bool {
	x, at := &s.segs[slot/s.per], slot%s.per
	if !x.isBusy(at) {
		return false
	}
	x.held[at/64] &^= 1 << (at % 64)
	x.busy--
	s.busy--
	return true
}

// release makes those of n slots free that are busy.
func (s *space) release(first, n int64) {
	for slot := first; slot < first+n; slot++ {
		if !s.unhold(slot) {
			continue
		}
		i := int(slot / s.per)
		if x := &s.segs[i]; x.busy == 0 && x.used == 0 {
			s.turn(i, segFree)
		}
	}
}

// releaseAll is release for slots anywhere.
func (s *space) releaseAll(slots []int64) {
	for _, slot := range slots {
		s.release(slot, 1)
	}
}

// abandon makes a segment of data free that the map does not use. Who used it
// last has told others that it is free, so nobody waits for readers.
func (s *space) abandon(i int) {
	if x := &s.segs[i]; x.kind != segData || x.used > 0 {
		return
	}
	s.busy -= int64(s.segs[i].busy)
	s.turn(i, segFree)
}

// open reports whether a segment may have a free slot, for data that leave
// reserve segments free.
func (s *space) open(i, reserve int) bool {
	x := &s.segs[i]
	return x.kind == segData && int64(x.used)+int64(x.busy) < s.per || x.kind == segFree && s.count[segFree] > reserve
}

// alloc takes up to n adjacent slots, leaving reserve segments free.
func (s *space) alloc(n int64, reserve int) (first, count int64, err error) {
	for range len(s.segs) + 1 {
		seg := int(s.rover / s.per)
		end := int64(seg+1) * s.per
		if s.open(seg, reserve) {
			if s.segs[seg].kind == segData && !s.warm(seg) {
				return 0, 0, coldError(seg)
			}
			first, count = s.run(seg, end, n)
		} else {
			s.rover = end
		}
		if s.rover >= int64(len(s.segs))*s.per {
			s.rover = 0
		}
		if count > 0 {
			return first, count, nil
		}
	}
	return 0, 0, fmt.Errorf("the store has no free chunk: %w", block.ErrNoSpace)
}

// run takes the next free slots of a segment.
func (s *space) run(seg int, end, n int64) (first, count int64) {
	if s.segs[seg].kind == segFree {
		s.turn(seg, segData)
	}
	x := &s.segs[seg]
	for ; s.rover < end && count < n; s.rover++ {
		at := s.rover % s.per
		if x.isBusy(at) || x.bits[at/64]&(1<<(at%64)) != 0 {
			if count > 0 {
				break
			}
			continue
		}
		if count == 0 {
			first = s.rover
		}
		s.hold(s.rover)
		count++
	}
	return first, count
}

// node takes a block for a node.
func (s *space) node() (addr int64, err error) {
	blocks := s.geo.segment / blockSize
	for range s.segs {
		i := s.nodeRover
		if x := &s.segs[i]; x.kind == segNode && int64(x.used) < blocks {
			for w := range x.bits {
				j := int64(w*64 + bits.TrailingZeros64(^x.bits[w]))
				if j < int64(w+1)*64 && j < blocks {
					x.bits[w] |= 1 << (j % 64)
					x.used++
					s.nodes++
					return s.geo.start(i) + j*blockSize, nil
				}
			}
		}
		s.nodeRover = (i + 1) % len(s.segs)
	}
	i, ok := s.segment(segNode)
	if !ok {
		return 0, fmt.Errorf("the store has no room for its map: %w", block.ErrNoSpace)
	}
	s.nodeRover = i
	return s.node()
}

// drop makes the blocks of nodes free.
func (s *space) drop(blocks []int64) {
	for _, addr := range blocks {
		i := s.geo.segmentOf(addr)
		x, j := &s.segs[i], (addr-s.geo.start(i))/blockSize
		if x.kind != segNode || x.bits[j/64]&(1<<(j%64)) == 0 {
			continue
		}
		x.bits[j/64] &^= 1 << (j % 64)
		s.nodes--
		if x.used--; x.used == 0 {
			s.turn(i, segFree)
		}
	}
}

// freeze returns the segments as a checkpoint has to describe them. What the
// map does not use is free, and the log is found by itself.
func (s *space) freeze() []segment {
	all := append([]segment(nil), s.segs...)
	for i := range s.segs {
		s.segs[i].dirty, s.segs[i].frozen = false, s.segs[i].kind == segData
		x := &all[i]
		if x.kind == segLog || x.kind == segData && x.used == 0 {
			x.kind = segFree
		}
	}
	return all
}

// cool forgets the bits of segments that can be read again, if there are many.
func (s *space) cool(limit int) {
	loaded := 0
	for i := range s.segs {
		x := &s.segs[i]
		if x.kind != segData || x.bits == nil || x.dirty || x.busy > 0 {
			continue
		}
		if loaded++; loaded > limit {
			x.bits = nil
		}
	}
}
