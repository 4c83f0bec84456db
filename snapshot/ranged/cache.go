package ranged

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// A cache keeps nodes in memory, up to a limit. Readers find a node through the
// link to it, without a lock; the cache only counts what there is, and cuts the
// links of those that nobody has used for a while: the clock algorithm.
type cache struct {
	geo   *geometry
	dev   block.Device
	limit int64

	mu    sync.Mutex
	nodes []*node
	hand  int
	bytes int64
	// reads is how many nodes were read.
	reads atomic.Int64
}

// nodeBytes is the memory of a node apart from its columns, kidBytes that of a
// link; minNodes are always kept, so that work goes on. Memory comes in pieces
// that are up to an eighth too large.
const (
	nodeBytes = 256
	kidBytes  = 40
	minNodes  = 16
)

func (n *node) bytes() int64 {
	return int64(cap(n.data))*9/8 + nodeBytes + int64(cap(n.kids))*kidBytes
}

// get returns the node of a link.
func (c *cache) get(ctx context.Context, l *link, kind byte, level int, flags block.Flags) (*node, error) {
	if n := l.p.Load(); n != nil {
		if !n.used.Load() {
			n.used.Store(true)
		}
		return n, nil
	}
	if flags&block.NoWait != 0 {
		return nil, block.ErrWouldBlock
	}
	b := make([]byte, blockSize)
	if err := c.dev.ReadAt(ctx, b, l.addr, 0); err != nil {
		return nil, err
	}
	n, err := c.geo.parseNode(b, l, kind, level)
	if err != nil {
		return nil, err
	}
	c.reads.Add(1)
	if !l.p.CompareAndSwap(nil, n) {
		if other := l.p.Load(); other != nil {
			return other, nil
		}
		return n, nil
	}
	c.add(n)
	return n, nil
}

// add counts a node that a link refers to, and makes room.
func (c *cache) add(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += n.bytes()
	for turns := 2 * len(c.nodes); c.bytes > c.limit && len(c.nodes) >= minNodes && turns > 0; turns-- {
		c.hand %= len(c.nodes)
		old := c.nodes[c.hand]
		if old.used.Swap(false) || old.parent() {
			c.hand++
			continue
		}
		old.link.p.CompareAndSwap(old, nil)
		c.bytes -= old.bytes()
		last := len(c.nodes) - 1
		c.nodes[c.hand] = c.nodes[last]
		c.nodes[last] = nil
		c.nodes = c.nodes[:last]
		c.hand++
	}
	c.nodes = append(c.nodes, n)
}

// parent reports whether nodes below this one are in memory. They could not be
// found without it.
func (n *node) parent() bool {
	if n.link.p.Load() != n {
		return false
	}
	for _, k := range n.kids {
		if k.p.Load() != nil {
			return true
		}
	}
	return false
}
