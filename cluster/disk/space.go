package disk

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
)

const (
	segmentWords = segmentBlocks / 64
	// roomy is the number of free places that make a segment worth going to.
	roomy = segmentBlocks / 16
	// districtSize is the number of segments that are passed over together if
	// none of them has room.
	districtSize = 1024
	// maxWarm is the number of segments whose bits are kept in memory for no
	// better reason than having been there.
	maxWarm = 1024
)

// bitset has a bit for each place of a segment.
type bitset [segmentWords]uint64

func (b *bitset) has(i uint32) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b *bitset) set(i uint32)      { b[i/64] |= 1 << (i % 64) }
func (b *bitset) unset(i uint32)    { b[i/64] &^= 1 << (i % 64) }

func (b *bitset) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// encode returns what the metadata have about a segment: nothing if no place
// is in use, one byte if all are, else a bit for each.
func (b *bitset) encode(buf []byte, size int) (value []byte, there bool) {
	switch b.count() {
	case 0:
		return nil, false
	case size:
		return append(buf, 1), true
	}
	for _, w := range b {
		buf = binary.LittleEndian.AppendUint64(buf, w)
	}
	return buf, true
}

// decode is the inverse of encode for a segment with this number of places.
func (b *bitset) decode(value []byte, size int) error {
	*b = bitset{}
	if len(value) == 1 && value[0] == 1 {
		for i := range uint32(size) {
			b.set(i)
		}
		return nil
	}
	if len(value) != segmentWords*8 {
		return damaged("the bits of a segment have %d bytes, expected %d", len(value), segmentWords*8)
	}
	for i := range b {
		b[i] = binary.LittleEndian.Uint64(value[8*i:])
	}
	for i := uint32(size); i < segmentBlocks; i++ {
		if b.has(i) {
			return damaged("the bits of a segment of %d places have place %d", size, i)
		}
	}
	if n := b.count(); n == 0 || n == size {
		return damaged("the bits of a segment with %d of %d places in use", n, size)
	}
	return nil
}

// A segment is one whose bits are in memory.
type segment struct {
	// durable are the places that the metadata use, with what is on its way
	// there; busy are others that cannot be taken: those of data that are
	// written, and those that are freed but not yet durably.
	durable, busy bitset
	// touched: durable is not what the metadata have.
	touched bool
}

// space knows which places of the slab are free.
type space struct {
	// load reads the bits of a segment from the metadata.
	load func(segment int, b *bitset) error
	size uint64

	mu sync.Mutex
	// trimming counts the segments that are about to be free; idle is signalled
	// when there is none.
	trimming int
	idle     sync.Cond
	// free has for each segment the number of places that can be taken.
	free []uint16
	// most has for each so many segments the greatest of these numbers, or more.
	most []uint16
	warm map[int]*segment
	// coolAt is the number of them at which some are forgotten.
	coolAt int
	// touched are the segments that are.
	touched []int
	// cur is where places are taken, from rover on.
	cur   int
	rover uint32
	// cramped: no segment is roomy.
	cramped bool
	// total counts the places that can be taken, of which reserve are for
	// repairs only.
	total, reserve int64
	// used counts the places of durable.
	used int64
	// unseen is the number of bytes written to the metadata, taken that of the
	// places taken, since somebody looked for room.
	unseen, taken int64
	// full: a place was refused; starved: the metadata have no room for more.
	full, starved bool
}

func newSpace(blocks uint64, reserve int64, load func(int, *bitset) error) *space {
	s := &space{load: load, size: blocks, warm: map[int]*segment{}, coolAt: maxWarm, reserve: reserve, total: int64(blocks)}
	s.idle.L = &s.mu
	s.free = make([]uint16, (blocks+segmentBlocks-1)/segmentBlocks)
	for i := range s.free {
		s.free[i] = uint16(s.sizeOf(i))
	}
	s.most = slices.Repeat([]uint16{segmentBlocks}, (len(s.free)+districtSize-1)/districtSize)
	return s
}

// sizeOf is the number of places of a segment.
func (s *space) sizeOf(seg int) int {
	return int(min(segmentBlocks, s.size-uint64(seg)*segmentBlocks))
}

// found says, when the disk is opened, what the metadata have about a segment.
func (s *space) found(seg int, b *bitset) {
	n := b.count()
	s.free[seg] -= uint16(n)
	s.total -= int64(n)
	s.used += int64(n)
}

// get returns the bits of a segment.
func (s *space) get(seg int) (*segment, error) {
	if x := s.warm[seg]; x != nil {
		return x, nil
	}
	if len(s.warm) >= s.coolAt {
		s.cool()
		// Many may have to stay: they are not gone through again at once.
		s.coolAt = max(maxWarm, 2*len(s.warm))
	}
	x := &segment{}
	if err := s.load(seg, &x.durable); err != nil {
		return nil, err
	}
	s.warm[seg] = x
	return x, nil
}

// cool forgets the segments that are as the metadata have them.
func (s *space) cool() {
	for i, x := range s.warm {
		if !x.touched && x.busy == (bitset{}) && i != s.cur {
			delete(s.warm, i)
		}
	}
}

// take returns up to n places that follow each other. With privilege the
// reserve may be used.
func (s *space) take(n int, privilege bool) (place uint64, count int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor := s.reserve
	if privilege {
		floor = 0
	}
	if s.starved && !privilege {
		s.full = true
		return 0, 0, fmt.Errorf("the metadata of the disk have no room for more places: %w", block.ErrNoSpace)
	}
	if s.total <= floor {
		s.full = true
		return 0, 0, fmt.Errorf("all %d blocks of the disk are in use, but for %d that are kept for repairs: %w", s.size, s.reserve, block.ErrNoSpace)
	}
	seg := s.cur
	if int(s.free[seg]) < n {
		seg = s.next()
	}
	x, err := s.get(seg)
	if err != nil {
		return 0, 0, err
	}
	at, count := x.run(s.rover, n, s.sizeOf(seg), seg == s.cur)
	if count < n && !s.cramped {
		// Somewhere else there may be room in one piece.
		if other := s.next(); other != seg && s.free[other] >= roomy {
			if x, err = s.get(other); err != nil {
				return 0, 0, err
			}
			seg = other
			at, count = x.run(0, n, s.sizeOf(seg), false)
		}
	}
	for i := range uint32(count) {
		x.busy.set(at + i)
	}
	s.cur, s.rover = seg, at+uint32(count)
	s.free[seg] -= uint16(count)
	s.total -= int64(count)
	s.taken += int64(count)
	return uint64(seg)*segmentBlocks + uint64(at), count, nil
}

// next returns the next segment that is roomy, else one that has most.
func (s *space) next() int {
	best := s.cur
	here := s.cur / districtSize
	for k := 0; k <= len(s.most); k++ {
		d := (here + k) % len(s.most)
		if int(s.most[d]) < roomy && s.most[d] <= s.free[best] {
			continue
		}
		from, end := d*districtSize, min((d+1)*districtSize, len(s.free))
		if k == 0 {
			from = s.cur + 1
		}
		top := d * districtSize
		for i := from; i < end; i++ {
			if int(s.free[i]) >= roomy {
				return i
			}
			if s.free[i] > s.free[top] {
				top = i
			}
		}
		if k > 0 {
			s.most[d] = s.free[top]
		}
		if s.free[top] > s.free[best] {
			best = top
		}
	}
	s.cramped = true
	return best
}

// gained says that there is more room in a segment.
func (s *space) gained(seg int, places uint16) {
	s.free[seg] += places
	s.most[seg/districtSize] = max(s.most[seg/districtSize], s.free[seg])
	s.total += int64(places)
	s.full = false
	s.cramped = s.cramped && s.free[seg] < roomy
}

// run finds n free places in a row, looking from some place on if that is where
// one left off, or else the longest row there is.
func (x *segment) run(from uint32, n, size int, here bool) (at uint32, count int) {
	if !here {
		from = 0
	}
	for pass := 0; pass < 2; pass++ {
		for i := from; int(i) < size; i++ {
			k := 0
			for k < n && int(i)+k < size && !x.durable.has(i+uint32(k)) && !x.busy.has(i+uint32(k)) {
				k++
			}
			if k > count {
				at, count = i, k
			}
			if count == n {
				return at, count
			}
			i += uint32(k)
		}
		if from == 0 {
			break
		}
		from = 0
	}
	return at, count
}

// drop frees a place that an entry had. If the metadata know it, the next flush
// does, which finds out by comparing.
func (s *space) drop(place uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg, i := int(place/segmentBlocks), uint32(place%segmentBlocks)
	if x := s.warm[seg]; x != nil && x.busy.has(i) && !x.durable.has(i) {
		x.busy.unset(i)
		s.gained(seg, 1)
	}
}

// commit says what the next batch of the metadata does: it frees places and
// names others, and may do both with one that moves. The freed ones can be taken
// when settle has been called with them.
func (s *space) commit(frees, takes []uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range frees {
		seg, i := int(p/segmentBlocks), uint32(p%segmentBlocks)
		x, err := s.get(seg)
		if err != nil {
			return err
		}
		x.durable.unset(i)
		x.busy.set(i)
		s.touch(seg, x)
	}
	for _, p := range takes {
		seg, i := int(p/segmentBlocks), uint32(p%segmentBlocks)
		x, err := s.get(seg)
		if err != nil {
			return err
		}
		x.durable.set(i)
		x.busy.unset(i)
		s.touch(seg, x)
	}
	s.used += int64(len(takes) - len(frees))
	return nil
}

func (s *space) touch(seg int, x *segment) {
	if !x.touched {
		x.touched = true
		s.touched = append(s.touched, seg)
	}
}

// eachTouched calls f with the segments that a batch must contain.
func (s *space) eachTouched(f func(seg, size int, durable *bitset)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.touched {
		f(i, s.sizeOf(i), &s.warm[i].durable)
	}
}

// settle says that the batch is durable, which freed these places, and some of
// them twice if they were moved in between. It returns the segments that have
// become empty; their places are busy until trimmed is called.
func (s *space) settle(frees []uint64) (empty []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range frees {
		seg, i := int(p/segmentBlocks), uint32(p%segmentBlocks)
		x := s.warm[seg]
		if x.durable.has(i) || !x.busy.has(i) {
			continue // it has moved, or is free already
		}
		x.busy.unset(i)
		s.gained(seg, 1)
	}
	for _, p := range frees {
		seg := int(p / segmentBlocks)
		if int(s.free[seg]) < s.sizeOf(seg) || seg == s.cur {
			continue
		}
		empty = append(empty, seg)
		for i := range uint32(s.sizeOf(seg)) {
			s.warm[seg].busy.set(i)
		}
		s.total -= int64(s.free[seg])
		s.free[seg] = 0
		s.trimming++
	}
	for _, i := range s.touched {
		s.warm[i].touched = false
	}
	s.touched = reuse(s.touched)
	return empty
}

// trimmed makes the places of an empty segment free.
func (s *space) trimmed(seg int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm[seg].busy = bitset{}
	s.gained(seg, uint16(s.sizeOf(seg)))
	s.trimming--
	s.idle.Broadcast()
}

// waitForTrims returns when no segment is about to be free.
func (s *space) waitForTrims() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.trimming > 0 {
		s.idle.Wait()
	}
}
