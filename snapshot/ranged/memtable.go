package ranged

import (
	"iter"
	"math"
	"slices"
	"sort"

	"github.com/strata-storage/strata/snapshot"
)

// A memtable has the entries of the chunks that have changed since the tree was
// made: all of a chunk, or which of the tree's are left out. It is in order, so
// that a checkpoint reads it from one end to the other and nothing has to be
// sorted; and it is a list of small pages of packed entries, so that it holds many.
type memtable struct {
	pages []*page
	// firsts are the first chunks of the pages.
	firsts []int64
	// spans are the ranges of snapshots that entries refer to by number.
	spans []views
	index map[views]uint32
	// base is the commit that entries count from.
	base            uint64
	chunks, entries int64
	// bytes is about the memory it takes.
	bytes int64
}

// views are those from one snapshot to another.
type views struct{ from, to snapshot.ID }

// A page has the entries of some chunks, those of keys[i] up to ends[i].
type page struct {
	keys []int64
	ends []uint32
	list []packed
}

// packed is an entry: its range by number, place and kind in one, and the commit
// that it was born by, less base.
type packed struct {
	place uint64
	views uint32
	born  int32
}

// unborn is the commit of those that the tree has.
const unborn = math.MinInt32

// pageChunks and pageEntries bound pages of more than one chunk, pageRoom is by
// how much they grow at a time.
const (
	pageChunks  = 128
	pageEntries = 256
	pageRoom    = 16
)

// The memory of a chunk, an entry, a page and a range, with what is free of it.
const (
	chunkBytes = 14
	entryBytes = 18
	pageBytes  = 256
	viewsBytes = 64
)

func newMemtable() *memtable { return &memtable{index: map[views]uint32{}} }

func (m *memtable) empty() bool { return m == nil || m.chunks == 0 }

// find returns the page where a chunk is or belongs, and its place there.
func (m *memtable) find(c int64) (p, i int, ok bool) {
	p = max(sort.Search(len(m.firsts), func(i int) bool { return m.firsts[i] > c })-1, 0)
	i, ok = slices.BinarySearch(m.pages[p].keys, c)
	return p, i, ok
}

// get appends the entries of a chunk to buf if it has changed.
func (m *memtable) get(c int64, buf []entry) ([]entry, bool) {
	if m.empty() {
		return buf, false
	}
	p, i, ok := m.find(c)
	if !ok {
		return buf, false
	}
	return m.unpack(m.pages[p].at(i), buf), true
}

func (p *page) at(i int) []packed {
	from := uint32(0)
	if i > 0 {
		from = p.ends[i-1]
	}
	return p.list[from:p.ends[i]]
}

func (m *memtable) unpack(list []packed, buf []entry) []entry {
	for _, x := range list {
		v := m.spans[x.views]
		e := entry{from: v.from, to: v.to, where: snapshot.Where(x.place & 3), slot: int64(x.place >> 2)}
		if x.born != unborn {
			e.born = m.base + uint64(int64(x.born))
		}
		buf = append(buf, e)
	}
	return buf
}

// pack appends entries to all.
func (m *memtable) pack(all []packed, list []entry) []packed {
	for _, e := range list {
		if m.base == 0 {
			m.base = e.born
		}
		x := packed{place: uint64(e.slot)<<2 | uint64(e.where), views: m.number(views{e.from, e.to}), born: unborn}
		// The log is not so long; what is that much older is durable.
		if d := int64(e.born - m.base); e.born != 0 && d > unborn {
			x.born = int32(d)
		}
		all = append(all, x)
	}
	return all
}

// number returns the number of a range of snapshots.
func (m *memtable) number(v views) uint32 {
	n, ok := m.index[v]
	if !ok {
		n = uint32(len(m.spans))
		m.spans, m.index[v] = append(m.spans, v), n
		m.bytes += viewsBytes
	}
	return n
}

// set replaces the entries of a chunk.
func (m *memtable) set(c int64, list []entry) {
	var room [8]packed
	m.put(c, m.pack(room[:0], list))
}

func (m *memtable) put(c int64, all []packed) {
	if len(m.pages) == 0 {
		m.pages, m.firsts = []*page{{}}, []int64{c}
		m.bytes += pageBytes
	}
	at, i, ok := m.find(c)
	p := m.pages[at]
	from, old := uint32(0), uint32(0)
	if i > 0 {
		from = p.ends[i-1]
	}
	if ok {
		old = p.ends[i] - from
	} else {
		p.keys = slices.Insert(room(p.keys, 1), i, c)
		p.ends = slices.Insert(room(p.ends, 1), i, from)
		m.firsts[at] = p.keys[0]
		m.chunks++
		m.bytes += chunkBytes
	}
	p.list = slices.Replace(room(p.list, len(all)), int(from), int(from+old), all...)
	for j := i; j < len(p.ends); j++ {
		if ok || j > i {
			p.ends[j] -= old
		}
		p.ends[j] += uint32(len(all))
	}
	m.entries += int64(len(all)) - int64(old)
	m.bytes += (int64(len(all)) - int64(old)) * entryBytes
	if n := len(p.keys); n > pageChunks || n > 1 && len(p.list) > pageEntries {
		m.split(at)
	}
}

// room returns a slice that n more fit into.
func room[T any](s []T, n int) []T {
	if cap(s)-len(s) >= n {
		return s
	}
	return append(make([]T, 0, len(s)+n+pageRoom), s...)
}

// split makes two pages of one.
func (m *memtable) split(at int) {
	p, h := m.pages[at], len(m.pages[at].keys)/2
	cut := p.ends[h-1]
	a := &page{keys: room(p.keys[:h:h], 1), ends: room(p.ends[:h:h], 1), list: room(p.list[:cut:cut], 1)}
	b := &page{keys: room(p.keys[h:len(p.keys):len(p.keys)], 1), ends: room(p.ends[h:len(p.ends):len(p.ends)], 1), list: room(p.list[cut:len(p.list):len(p.list)], 1)}
	for i := range b.ends {
		b.ends[i] -= cut
	}
	m.pages[at] = a
	m.pages = slices.Insert(m.pages, at+1, b)
	m.firsts = slices.Insert(m.firsts, at+1, b.keys[0])
	m.bytes += pageBytes
}

// clear returns how many of n chunks from c on are not in the memtable, before
// the first that is.
func (m *memtable) clear(c, n int64) int64 {
	if m.empty() {
		return n
	}
	for next := range m.from(c) {
		return min(next-c, n)
	}
	return n
}

// from returns the chunks from one on, in order, with their packed entries.
func (m *memtable) from(c int64) iter.Seq2[int64, []packed] {
	return func(yield func(int64, []packed) bool) {
		if m.empty() {
			return
		}
		at, i, _ := m.find(c)
		for ; at < len(m.pages); at, i = at+1, 0 {
			for p := m.pages[at]; i < len(p.keys); i++ {
				if !yield(p.keys[i], p.at(i)) {
					return
				}
			}
		}
	}
}

// all returns the chunks with their entries, in order.
func (m *memtable) all() iter.Seq2[int64, []entry] {
	return func(yield func(int64, []entry) bool) {
		for c, list := range m.from(0) {
			if !yield(c, m.unpack(list, nil)) {
				return
			}
		}
	}
}

// over puts a newer memtable, which has precedence, on top of m. What that costs
// depends on the newer one only.
func (m *memtable) over(newer *memtable) {
	for c, list := range newer.all() {
		// What is partial is never over what is not.
		if partial(list) {
			old, _ := m.get(c, nil)
			list = append(old, list...)
		}
		m.set(c, list)
	}
}

// A cursor goes through a memtable: the changes of a map.
type cursor struct {
	m       *memtable
	page, i int
}

func (x *cursor) peek() (key, bool) {
	if x.m.empty() || x.page == len(x.m.pages) {
		return key{}, false
	}
	return key{uint64(x.m.pages[x.page].keys[x.i]), max48}, true
}

func (x *cursor) next() op {
	p := x.m.pages[x.page]
	o := op{k: key{uint64(p.keys[x.i]), max48}, list: x.m.unpack(p.at(x.i), nil)}
	if x.i++; x.i == len(p.keys) {
		x.page, x.i = x.page+1, 0
	}
	return o
}
