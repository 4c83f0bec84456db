package ranged

import (
	"maps"
	"slices"
)

// extentShift is the size of extents: memtables count the chunks they have in
// each, so that most lookups of others cost one look into a small map.
const extentShift = 8

// A memtable has the entries of the chunks that have changed since the tree was
// made: all of them, not what has changed.
type memtable struct {
	chunks  map[int64][]entry
	extents map[int64]int32
	// bytes is about the memory it takes.
	bytes int64
}

// chunkBytes and entryBytes are the memory of a chunk and an entry, with the
// share of the maps that is free.
const (
	chunkBytes = 80
	entryBytes = 40
)

func newMemtable() *memtable {
	return &memtable{chunks: map[int64][]entry{}, extents: map[int64]int32{}}
}

func (m *memtable) get(c int64) ([]entry, bool) {
	if m == nil || m.extents[c>>extentShift] == 0 {
		return nil, false
	}
	list, ok := m.chunks[c]
	return list, ok
}

func (m *memtable) set(c int64, list []entry) {
	old, ok := m.chunks[c]
	if !ok {
		m.extents[c>>extentShift]++
		m.bytes += chunkBytes
	}
	m.bytes += int64(len(list)-len(old)) * entryBytes
	m.chunks[c] = list
}

// clear returns how many of n chunks from c on are not in the memtable, before
// the first that is.
func (m *memtable) clear(c, n int64) int64 {
	if m == nil || len(m.chunks) == 0 {
		return n
	}
	for i := int64(0); i < n; i++ {
		if m.extents[(c+i)>>extentShift] == 0 {
			i += 1<<extentShift - (c+i)&(1<<extentShift-1) - 1
			continue
		}
		if _, ok := m.chunks[c+i]; ok {
			return i
		}
	}
	return n
}

// sorted returns its chunks in order.
func (m *memtable) sorted() []int64 { return slices.Sorted(maps.Keys(m.chunks)) }

// under puts an older memtable below m, which has precedence.
func (m *memtable) under(old *memtable) {
	for c, list := range old.chunks {
		if _, ok := m.chunks[c]; !ok {
			m.set(c, list)
		}
	}
}
