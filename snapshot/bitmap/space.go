package bitmap

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/strata-storage/strata/block"
)

// space knows the chunks of the store. A chunk is used if the map or the
// metadata are in it, as far as they are staged, and held if it may not be given
// away: it is used, or part of a plan, or was used at the last commit, or has
// readers.
type space struct {
	n          int64
	used, held []uint64
	free       int64
	rover      int64
	// dirty are the pages of the bitmap that have changed.
	dirty map[int64]bool
	// freed are those that the next commit sets free.
	freed []int64
}

func newSpace(n int64) *space {
	words := (n + 63) / 64
	return &space{n: n, used: make([]uint64, words), held: make([]uint64, words), free: n, dirty: map[int64]bool{}}
}

func has(set []uint64, i int64) bool { return set[i/64]>>(i%64)&1 != 0 }

func (s *space) hold(i int64) {
	s.held[i/64] |= 1 << (i % 64)
	s.free--
}

// release makes chunks free that are held.
func (s *space) release(all []int64) {
	for _, i := range all {
		s.held[i/64] &^= 1 << (i % 64)
	}
	s.free += int64(len(all))
}

func (s *space) use(i int64) {
	s.used[i/64] |= 1 << (i % 64)
	s.dirty[i/bitsPerPage] = true
}

func (s *space) unuse(i int64) {
	s.used[i/64] &^= 1 << (i % 64)
	s.dirty[i/bitsPerPage] = true
}

// drop frees a chunk at the next commit.
func (s *space) drop(i int64) {
	s.unuse(i)
	s.freed = append(s.freed, i)
}

// alloc returns up to n adjacent chunks.
func (s *space) alloc(n int64) (first, count int64, err error) {
	i, ok := s.find(s.rover, 1)
	if !ok {
		i, ok = s.find(0, 1)
	}
	if !ok {
		return 0, 0, s.full()
	}
	for count < n && i+count < s.n && !has(s.held, i+count) {
		s.hold(i + count)
		count++
	}
	s.rover = (i + count) % s.n
	return i, count, nil
}

// allocGroup returns g adjacent chunks at a multiple of g, a power of two up to 8.
func (s *space) allocGroup(g int64) (int64, error) {
	i, ok := s.find(s.rover, g)
	if !ok {
		i, ok = s.find(0, g)
	}
	if !ok {
		return 0, s.full()
	}
	for k := range g {
		s.hold(i + k)
	}
	return i, nil
}

func (s *space) full() error {
	return fmt.Errorf("the %d chunks of the store are in use: %w", s.n, block.ErrNoSpace)
}

// find looks for g free chunks at a multiple of g, from a chunk on.
func (s *space) find(from, g int64) (int64, bool) {
	if s.free < g {
		return 0, false
	}
	mask := uint64(1)<<g - 1
	for i := (from + g - 1) / g * g; i+g <= s.n; {
		word := s.held[i/64]
		if word == ^uint64(0) {
			i = (i/64 + 1) * 64
			continue
		}
		if word>>(i%64)&mask == 0 {
			return i, true
		}
		i += max(g, int64(bits.TrailingZeros64(^(word>>(i%64))))/g*g)
	}
	return 0, false
}

// A slab is a group of chunks with leaves.
type slab struct {
	// used are in the map, spare in plans, waiting for a checkpoint: until
	// then the journal could write to them.
	used, spare, waiting int
}

// nodes allocates the blocks of leaves.
type nodes struct {
	*space
	l     *layout
	slabs map[int64]*slab
	// idle are blocks of slabs without use.
	idle []int64
	// freed wait for a commit, waiting for a checkpoint.
	freed, waiting []int64
}

func newNodes(l *layout, s *space) *nodes { return &nodes{space: s, l: l, slabs: map[int64]*slab{}} }

// slabOf returns the number of the slab of a block.
func (n *nodes) slabOf(at int64) int64 { return (at*pageSize - n.l.data) / n.l.group() }

// chunksOf returns the chunks of a slab.
func (n *nodes) chunksOf(i int64) []int64 {
	g := n.l.group() / n.l.chunk
	all := make([]int64, g)
	for k := range all {
		all[k] = i*g + int64(k)
	}
	return all
}

// blocksOf returns the blocks of a slab.
func (n *nodes) blocksOf(i int64) []int64 {
	all := make([]int64, n.l.group()/pageSize)
	for k := range all {
		all[k] = (n.l.data+i*n.l.group())/pageSize + int64(k)
	}
	return all
}

// take returns a block for a plan.
func (n *nodes) take() (int64, error) {
	if len(n.idle) == 0 {
		first, err := n.allocGroup(n.l.group() / n.l.chunk)
		if err != nil {
			return 0, err
		}
		i := first / (n.l.group() / n.l.chunk)
		n.slabs[i] = &slab{}
		n.idle = append(n.idle, n.blocksOf(i)...)
	}
	at := n.idle[len(n.idle)-1]
	n.idle = n.idle[:len(n.idle)-1]
	n.slabs[n.slabOf(at)].spare++
	return at, nil
}

// giveBack returns a block that was taken and not used.
func (n *nodes) giveBack(at int64) {
	n.slabs[n.slabOf(at)].spare--
	n.rest(at)
}

// rest makes a block idle, and its slab free if it was the last.
func (n *nodes) rest(at int64) {
	n.idle = append(n.idle, at)
	i := n.slabOf(at)
	if *n.slabs[i] != (slab{}) {
		return
	}
	n.idle = slices.DeleteFunc(n.idle, func(b int64) bool { return n.slabOf(b) == i })
	delete(n.slabs, i)
	n.release(n.chunksOf(i))
}

// useNode puts a block that was taken into the map.
func (n *nodes) useNode(at int64) {
	i := n.slabOf(at)
	s := n.slabs[i]
	s.spare--
	if s.used++; s.used == 1 {
		for _, c := range n.chunksOf(i) {
			n.use(c)
		}
	}
}

// dropNode takes a block out of the map.
func (n *nodes) dropNode(at int64) {
	i := n.slabOf(at)
	s := n.slabs[i]
	s.waiting++
	if s.used--; s.used == 0 {
		for _, c := range n.chunksOf(i) {
			n.unuse(c)
		}
	}
	n.freed = append(n.freed, at)
}

// rested ends the waiting of blocks.
func (n *nodes) rested() {
	for _, at := range n.waiting {
		n.slabs[n.slabOf(at)].waiting--
		n.rest(at)
	}
	n.waiting = nil
}

// adopt counts a block that Load has found in the map. It reports whether that
// can be.
func (n *nodes) adopt(at int64, seen map[int64]bool) bool {
	if at < n.l.data/pageSize || at >= n.l.last || seen[at] {
		return false
	}
	i := n.slabOf(at)
	if i >= n.n/(n.l.group()/n.l.chunk) {
		return false
	}
	seen[at] = true
	if n.slabs[i] == nil {
		n.slabs[i] = &slab{}
	}
	n.slabs[i].used++
	return true
}

// chunksInUse counts those with leaves, also such that wait.
func (n *nodes) chunksInUse() int64 {
	return int64(len(n.slabs)) * (n.l.group() / n.l.chunk)
}
