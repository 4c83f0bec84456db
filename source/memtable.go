package source

import (
	"sync"
	"sync/atomic"
)

const (
	tableBits = 9
	tableFan  = 1 << tableBits
)

// A chunkTable maps the numbers of chunks to chunks: a tree of fixed depth
// whose nodes appear when they are needed and stay. Looking up takes no lock.
type chunkTable struct {
	root tableNode
	// shift is that of the root: a node of shift s > 0 has nodes of shift
	// s-tableBits under it, and one of shift 0 has chunks.
	shift uint
	grow  sync.Mutex
}

// A tableNode has one of its fields.
type tableNode struct {
	nodes  *[tableFan]atomic.Pointer[tableNode]
	chunks *[tableFan]atomic.Pointer[chunk]
}

func newTableNode(shift uint) tableNode {
	if shift == 0 {
		return tableNode{chunks: new([tableFan]atomic.Pointer[chunk])}
	}
	return tableNode{nodes: new([tableFan]atomic.Pointer[tableNode])}
}

// init makes t a table of n chunks.
func (t *chunkTable) init(n uint64) {
	for n > tableFan<<t.shift {
		t.shift += tableBits
	}
	t.root = newTableNode(t.shift)
}

// get returns chunk i, nil if there is none.
func (t *chunkTable) get(i uint64) *chunk {
	n := &t.root
	for s := t.shift; s > 0; s -= tableBits {
		if n = n.nodes[i>>s%tableFan].Load(); n == nil {
			return nil
		}
	}
	return n.chunks[i%tableFan].Load()
}

// add returns chunk i and makes it if there is none.
func (t *chunkTable) add(i uint64) *chunk {
	t.grow.Lock()
	defer t.grow.Unlock()
	n := &t.root
	for s := t.shift; s > 0; s -= tableBits {
		slot := &n.nodes[i>>s%tableFan]
		if n = slot.Load(); n == nil {
			sub := newTableNode(s - tableBits)
			n = &sub
			slot.Store(n)
		}
	}
	slot := &n.chunks[i%tableFan]
	c := slot.Load()
	if c == nil {
		c = new(chunk)
		slot.Store(c)
	}
	return c
}

// next returns the first chunk from i up to last, both included, and its
// number; nil if there is none.
func (t *chunkTable) next(i, last uint64) (uint64, *chunk) {
	for i <= last {
		n, s := &t.root, t.shift
		for s > 0 {
			sub := n.nodes[i>>s%tableFan].Load()
			if sub == nil {
				break
			}
			n, s = sub, s-tableBits
		}
		if s == 0 {
			if c := n.chunks[i%tableFan].Load(); c != nil {
				return i, c
			}
		}
		i = (i>>s + 1) << s
	}
	return 0, nil
}
