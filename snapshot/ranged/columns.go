package ranged

import (
	"math/bits"
	"sync/atomic"

	"github.com/strata-storage/strata/snapshot"
)

// A node is one that was read, or written, as it is in memory: a column for each
// field, which has no more bytes for a record than its numbers need, less the
// smallest of them. It never changes.
type node struct {
	data  []byte
	count int
	// last is the greatest number of the first column, less its base.
	last  uint64
	cols  [5]column
	kids  []*link
	level uint8
	kind  byte
	// used is cleared by the cache, and set by readers.
	used atomic.Bool
	link *link
}

// Columns of nodes. Those after the keys are of leaves only, and the last ones
// of those of the map.
const (
	colFirst  = iota // of the key
	colSecond        // of the key
	colRun
	colTo // and one more, so that the head is 0
	colPlace
)

// A column has width bytes from at on for each record.
type column struct {
	base, mask uint64
	at         uint16
	width      uint16
}

// columnSlack is behind the columns, as eight bytes are read at once.
const columnSlack = 8

// get returns a number of a column.
func (n *node) get(col, i int) uint64 {
	c := &n.cols[col]
	return c.base + le.Uint64(n.data[int(c.at)+i*int(c.width):])&c.mask
}

// node returns the node of a sheet.
func (n *sheet) node() *node {
	x := &node{count: n.count, kind: n.kind, level: uint8(n.level), kids: n.kids, link: n.link}
	x.used.Store(true)
	cols := colRun
	if n.level == 0 {
		if cols = colTo; n.kind != eraNode {
			cols = colPlace + 1
		}
	}
	size := 0
	for c := range cols {
		lo, hi := ^uint64(0), uint64(0)
		for i := range n.count {
			v := n.field(c, i)
			lo, hi = min(lo, v), max(hi, v)
		}
		width := (bits.Len64(hi-lo) + 7) / 8
		x.cols[c] = column{base: lo, mask: 1<<(8*width) - 1, at: uint16(size), width: uint16(width)}
		size += width * n.count
	}
	x.data = make([]byte, size+columnSlack)
	for c := range cols {
		col := &x.cols[c]
		// Ascending, so that what is written too much is overwritten.
		for i := 0; i < n.count && col.width > 0; i++ {
			le.PutUint64(x.data[int(col.at)+i*int(col.width):], n.field(c, i)-col.base)
		}
	}
	x.last = n.keyAt(n.count-1).a - x.cols[colFirst].base
	return x
}

// field returns what a column has for a record.
func (n *sheet) field(col, i int) uint64 {
	r := n.rec(i)
	switch col {
	case colFirst:
		return n.keyAt(i).a
	case colSecond:
		return n.keyAt(i).b
	case colRun:
		_, count := n.run(i)
		return uint64(count)
	case colTo:
		return (get48(r[14:]) + 1) & max48
	}
	return get48(r[20:])
}

// keyAt returns the key of a record.
func (n *node) keyAt(i int) key { return key{n.get(colFirst, i), n.get(colSecond, i)} }

// run returns the first chunk and the number of chunks of a record of a leaf.
func (n *node) run(i int) (c, count int64) {
	if n.kind != eraNode {
		return int64(n.get(colFirst, i)), int64(n.get(colRun, i))
	}
	return int64(n.get(colSecond, i)), int64(n.get(colRun, i))
}

// entryAt returns the entry of a record of the map.
func (n *node) entryAt(i int) entry {
	place := n.get(colPlace, i)
	return entry{from: snapshot.ID(n.get(colSecond, i)), to: snapshot.ID((n.get(colTo, i) - 1) & max48),
		where: snapshot.Where(place & 3), slot: int64(place >> 2)}
}

// search returns the last record whose key is not behind k, or -1.
func (n *node) search(k key) int {
	hi := n.above(k.a)
	if hi == 0 || n.get(colFirst, hi-1) < k.a || n.get(colSecond, hi-1) <= k.b {
		return hi - 1
	}
	lo := 0
	for hi--; lo < hi; {
		m := int(uint(lo+hi) >> 1)
		if n.get(colFirst, m) < k.a || n.get(colSecond, m) <= k.b {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo - 1
}

// above returns the first record whose first number is greater than v. It
// begins where that would be if they were evenly spread: each cache line that
// has to be looked at costs more than the rest.
func (n *node) above(v uint64) int {
	c := &n.cols[colFirst]
	if v < c.base {
		return 0
	}
	if v -= c.base; v >= n.last {
		return n.count
	}
	over, under := bits.Mul64(v, uint64(n.count))
	guess, _ := bits.Div64(over, under, n.last)
	p, width := n.data[c.at:], int(c.width)
	at := func(i int) uint64 { return le.Uint64(p[i*width:]) & c.mask }
	lo, hi := int(guess), int(guess)
	// All before lo are not greater than v, that at hi is.
	if at(lo) <= v {
		for step := 1; ; step *= 2 {
			if hi = min(lo+step, n.count-1); at(hi) > v {
				break
			}
			lo = hi
		}
		lo++
	} else {
		for step := 1; ; step *= 2 {
			if lo = max(hi-step, 0); at(lo) <= v {
				lo++
				break
			}
			if hi = lo; lo == 0 {
				break
			}
		}
	}
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if at(m) > v {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return hi
}
