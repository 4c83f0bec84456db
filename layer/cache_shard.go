package layer

import (
	"sync"
	"sync/atomic"
)

// A cacheShard has some of the blocks. Its mutex is held for as long as it
// takes to copy a block or to make room for one, and never while the device is
// asked for anything.
//
// What to forget is chosen by the 2Q algorithm (Johnson and Shasha, 1994): a
// block that comes in for the first time is recent, and what is recent leaves
// in the order in which it came, however often it was read, since a scan reads
// each of its blocks several times in a row. Only a block that is wanted again
// after it left joins those that are often read, where being read gives a
// second chance.
type cacheShard struct {
	mu            sync.RWMutex
	size          int // of a block
	capacity      int
	made          int // blocks, in memory and free
	unused        int // blocks that are free
	free          *cacheBlock
	blocks        map[int64]*cacheBlock
	recent, often cacheQueue
	left          leavers
	_             [64]byte // shards share no cache line
}

// A cacheBlock is one block in memory.
type cacheBlock struct {
	index int64
	data  []byte

	// queue is nil while the block is being loaded; until then data belongs
	// to the request that loads it.
	queue      *cacheQueue
	prev, next *cacheBlock
	// again: it was read since it last had the chance to stay.
	again atomic.Bool
	// detached: what is being loaded is not to be kept.
	detached bool
	// done is made by the first request that waits, and closed when the
	// block is loaded.
	done chan struct{}
}

func (s *cacheShard) init(capacity, size int) {
	s.size, s.capacity = size, capacity
	s.blocks = make(map[int64]*cacheBlock)
	s.left = leavers{limit: capacity, at: make(map[int64]int)}
}

// read copies bytes of block i to p if it is in memory.
func (s *cacheShard) read(p []byte, i int64, start int) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.blocks[i]
	if b == nil || b.queue == nil {
		return false
	}
	copy(p, b.data[start:])
	if !b.again.Load() {
		b.again.Store(true)
	}
	return true
}

// update copies p to block i if it is in memory.
func (s *cacheShard) update(p []byte, i int64, start int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch b := s.blocks[i]; {
	case b == nil:
	case b.queue == nil:
		s.remove(b)
	default:
		copy(b.data[start:], p)
	}
}

// drop forgets block i.
func (s *cacheShard) drop(i int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blocks[i]; b != nil {
		s.remove(b)
	}
}

// dropRange forgets the blocks from first to last.
func (s *cacheShard) dropRange(first, last int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.blocks {
		if first <= i && i <= last {
			s.remove(b)
		}
	}
}

// claim enters block i as being loaded and returns it: the caller fills it and
// calls finish. If it returns nil, the block is loaded already, or is being
// loaded by another request, in which case the channel is closed when that is
// done, or there is no room.
func (s *cacheShard) claim(i int64) (b *cacheBlock, loading <-chan struct{}, loaded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blocks[i]; b != nil && b.queue == nil {
		if b.done == nil {
			b.done = make(chan struct{})
		}
		return nil, b.done, false
	} else if b != nil {
		return nil, nil, true
	}
	b = s.room()
	if b != nil {
		b.index = i
		s.blocks[i] = b
	}
	return b, nil, false
}

// room returns a block without content, nil if all are being loaded.
func (s *cacheShard) room() *cacheBlock {
	if s.free == nil && s.made < s.capacity {
		s.made++
		return &cacheBlock{data: make([]byte, s.size)}
	}
	if s.free == nil {
		s.evict()
	}
	b := s.free
	if b != nil {
		s.free, b.next = b.next, nil
		s.unused--
	}
	return b
}

// evict forgets a block in favour of others.
func (s *cacheShard) evict() {
	if s.recent.n > 0 && (s.recent.n > s.capacity/4 || s.often.n == 0) {
		b := s.recent.last()
		s.left.add(b.index)
		s.remove(b)
		return
	}
	for s.often.n > 0 {
		b := s.often.last()
		if !b.again.Load() {
			s.remove(b)
			return
		}
		b.again.Store(false)
		s.often.remove(b)
		s.often.push(b)
	}
}

// finish ends the loading of a block.
func (s *cacheShard) finish(b *cacheBlock, loaded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.done != nil {
		close(b.done)
		b.done = nil
	}
	switch {
	case b.detached:
		b.detached = false
		s.release(b)
	case !loaded:
		delete(s.blocks, b.index)
		s.release(b)
	case s.left.take(b.index):
		s.often.push(b)
	default:
		s.recent.push(b)
	}
}

// remove takes a block out of the map. One that is being loaded stays with the
// request that loads it.
func (s *cacheShard) remove(b *cacheBlock) {
	delete(s.blocks, b.index)
	if b.queue == nil {
		b.detached = true
		return
	}
	b.queue.remove(b)
	s.release(b)
}

func (s *cacheShard) release(b *cacheBlock) {
	b.again.Store(false)
	s.free, b.next = b, s.free
	s.unused++
}

// clear gives the memory back.
func (s *cacheShard) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		s.remove(b)
	}
	s.made -= s.unused
	s.free, s.unused, s.capacity = nil, 0, 0
}

// used is how many blocks have content or are getting it.
func (s *cacheShard) used() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.made - s.unused
}

// A cacheQueue is a list of blocks, each in front of those that came before.
// Its zero value is empty.
type cacheQueue struct {
	root cacheBlock // in a ring with the blocks
	n    int
}

func (q *cacheQueue) last() *cacheBlock { return q.root.prev }

func (q *cacheQueue) push(b *cacheBlock) {
	if q.root.next == nil {
		q.root.next, q.root.prev = &q.root, &q.root
	}
	b.queue, b.prev, b.next = q, &q.root, q.root.next
	b.prev.next, b.next.prev = b, b
	q.n++
}

func (q *cacheQueue) remove(b *cacheBlock) {
	b.prev.next, b.next.prev = b.next, b.prev
	b.queue, b.prev, b.next = nil, nil, nil
	q.n--
}

// leavers are the numbers of the blocks that left last.
type leavers struct {
	limit int
	ring  []int64
	next  int           // where in ring the next one goes
	at    map[int64]int // where in ring each one is
}

func (l *leavers) add(i int64) {
	if len(l.ring) < l.limit {
		l.ring = append(l.ring, i)
	} else {
		if old := l.ring[l.next]; l.at[old] == l.next {
			delete(l.at, old)
		}
		l.ring[l.next] = i
	}
	l.at[i] = l.next
	l.next = (l.next + 1) % l.limit
}

// take reports whether i is among them, and forgets it.
func (l *leavers) take(i int64) bool {
	_, ok := l.at[i]
	delete(l.at, i)
	return ok
}
