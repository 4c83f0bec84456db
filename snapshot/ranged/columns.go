package ranged

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/strata-storage/strata/snapshot"
)

// A node is one that was read, or written, as it is in memory. What a lookup
// compares is a column of its own, what it reads then are the rows of the other
// columns: each has no more bytes for a record than its numbers need, less the
// smallest of them. Its records never change.
//
// With many nodes each line of the processor's cache that a lookup has to wait for
// costs more than all the rest. So the columns are behind the node, what is needed
// first comes first, and nodes below that are in memory are near.
type node struct {
	// begin and last are the first and the last number of the first column,
	// and slope is by how much it grows for a record, in 1/65536; the column
	// has what is more than that.
	begin, last, slope uint64
	count              int
	// used is cleared by the cache, and set by readers.
	used  atomic.Bool
	level uint8
	kind  byte
	cols  [5]column
	data  []byte
	// kids are the nodes below, near those of them that readers have found
	// from here.
	kids []*link
	near []atomic.Pointer[node]
	link *link
	// What follows belongs to the cache: which node has this one near, at
	// which index, and its place among all, or 0.
	up           *node
	index, place int
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

// A column has width bytes for each record, from at on and stride apart.
type column struct {
	base              uint64
	at, width, stride uint16
}

// columnSlack is behind the columns, as eight bytes are read at once.
const columnSlack = 8

// newNode returns a node with size bytes of data, which are behind it unless
// they are unusually many.
func newNode(size int) *node {
	switch {
	case size <= 184:
		x := new(struct {
			node
			b [184]byte
		})
		x.data = x.b[:]
		return &x.node
	case size <= 344:
		x := new(struct {
			node
			b [344]byte
		})
		x.data = x.b[:]
		return &x.node
	case size <= 600:
		x := new(struct {
			node
			b [600]byte
		})
		x.data = x.b[:]
		return &x.node
	case size <= 856:
		x := new(struct {
			node
			b [856]byte
		})
		x.data = x.b[:]
		return &x.node
	case size <= 1368:
		x := new(struct {
			node
			b [1368]byte
		})
		x.data = x.b[:]
		return &x.node
	case size <= 1880:
		x := new(struct {
			node
			b [1880]byte
		})
		x.data = x.b[:]
		return &x.node
	}
	return &node{data: make([]byte, size)}
}

// get returns a number of a column.
func (n *node) get(col, i int) uint64 {
	c := &n.cols[col]
	if c.width == 0 {
		return c.base
	}
	return c.base + le.Uint64(n.data[int(c.at)+i*int(c.stride):])&c.mask()
}

// first returns a number of the first column.
func (n *node) first(i int) uint64 { return n.get(colFirst, i) + line(n.slope, i) }

func line(slope uint64, i int) uint64 { return uint64(i) * slope >> 16 }

func (c *column) mask() uint64 { return 1<<(8*c.width&63) - 1 }

// node returns the node of a sheet.
func (n *sheet) node() *node {
	cols := colRun
	if n.level == 0 {
		if cols = colTo; n.kind != eraNode {
			cols = colPlace + 1
		}
	}
	var all [5]column
	row := 0
	for c := colSecond; c < cols; c++ {
		all[c] = n.column(c, 0)
		all[c].at = uint16(row)
		row += int(all[c].width)
	}
	begin, last, slope := n.keyAt(0).a, n.keyAt(n.count-1).a, uint64(0)
	all[colFirst] = n.column(colFirst, 0)
	if n.count > 1 {
		// Chunks that are spread by chance are near a line; others may be not.
		s := (last - begin) << 16 / uint64(n.count-1)
		if c := n.column(colFirst, s); c.width < all[colFirst].width {
			all[colFirst], slope = c, s
		}
	}
	first := int(all[colFirst].width) * n.count
	x := newNode(first + row*n.count + columnSlack)
	x.count, x.kind, x.level, x.kids, x.link, x.cols = n.count, n.kind, uint8(n.level), n.kids, n.link, all
	x.begin, x.last, x.slope = begin, last, slope
	x.near = make([]atomic.Pointer[node], len(n.kids))
	x.used.Store(true)
	x.cols[colFirst].stride = all[colFirst].width
	for c := colSecond; c < cols; c++ {
		x.cols[c].at, x.cols[c].stride = uint16(first)+all[c].at, uint16(row)
	}
	// Ascending, so that what is written too much is overwritten.
	for i := range n.count {
		x.set(colFirst, i, n.field(colFirst, i)-line(slope, i))
	}
	for i := range n.count {
		for c := colSecond; c < cols; c++ {
			x.set(c, i, n.field(c, i))
		}
	}
	return x
}

// column returns what a column needs for what is more than a line.
func (n *sheet) column(col int, slope uint64) column {
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range n.count {
		v := int64(n.field(col, i)) - int64(line(slope, i))
		lo, hi = min(lo, v), max(hi, v)
	}
	return column{base: uint64(lo), width: uint16(bits.Len64(uint64(hi-lo))+7) / 8}
}

func (n *node) set(col, i int, v uint64) {
	if c := &n.cols[col]; c.width > 0 {
		le.PutUint64(n.data[int(c.at)+i*int(c.stride):], v-c.base)
	}
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
func (n *node) keyAt(i int) key { return key{n.first(i), n.get(colSecond, i)} }

// run returns the first chunk and the number of chunks of a record of a leaf.
func (n *node) run(i int) (c, count int64) {
	if n.kind != eraNode {
		return int64(n.first(i)), int64(n.get(colRun, i))
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
	if hi == 0 || k.b == max48 || n.first(hi-1) < k.a || n.get(colSecond, hi-1) <= k.b {
		return hi - 1
	}
	lo := 0
	for hi--; lo < hi; {
		m := int(uint(lo+hi) >> 1)
		if n.first(m) < k.a || n.get(colSecond, m) <= k.b {
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
	if v < n.begin {
		return 0
	}
	if v >= n.last {
		return n.count
	}
	over, under := bits.Mul64(v-n.begin, uint64(n.count-1))
	guess, _ := bits.Div64(over, under, n.last-n.begin)
	lo, hi := int(guess), int(guess)
	// All before lo are not greater than v, that at hi is.
	if n.first(lo) <= v {
		for step := 1; ; step *= 2 {
			if hi = min(lo+step, n.count-1); n.first(hi) > v {
				break
			}
			lo = hi
		}
		lo++
	} else {
		for step := 1; ; step *= 2 {
			if lo = max(hi-step, 0); n.first(lo) <= v {
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
		if n.first(m) > v {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return hi
}
