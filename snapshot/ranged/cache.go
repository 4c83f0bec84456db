package ranged

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// A cache keeps nodes in memory, up to a limit. Readers find a node through the
// link to it, or the node above it, without a lock; the cache only counts what
// there is, and cuts the links of those that nobody has used for a while: the
// clock algorithm. Those that no tree has any more it is told.
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
// link and how to find the node; minNodes are always kept, so that work goes on.
// Memory comes in pieces that are up to an eighth too large.
const (
	nodeBytes = 256
	kidBytes  = 48
	minNodes  = 16
)

func (n *node) bytes() int64 {
	return int64(cap(n.data))*9/8 + nodeBytes + int64(cap(n.kids))*kidBytes
}

// touch notes that a node is used.
func (n *node) touch() {
	if !n.used.Load() {
		n.used.Store(true)
	}
}

// kid returns the i-th node below another one.
func (c *cache) kid(ctx context.Context, up *node, i int, flags block.Flags) (*node, error) {
	if n := up.near[i].Load(); n != nil {
		n.touch()
		return n, nil
	}
	n, err := c.get(ctx, up.kids[i], up.kind, int(up.level)-1, flags)
	if err == nil {
		c.bring(up, i, n)
	}
	return n, err
}

// bring lets readers find a node without looking at the link. Only one of the
// nodes above it has it near, of several trees that share it: who comes from
// another one brings it there.
func (c *cache) bring(up *node, i int, n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.place == 0 || up.place == 0 {
		return // it was dropped meanwhile
	}
	n.leave()
	n.up, n.index = up, i
	up.near[i].Store(n)
}

// leave makes that readers look at the link again.
func (n *node) leave() {
	if n.up != nil {
		n.up.near[n.index].Store(nil)
		n.up = nil
	}
}

// get returns the node of a link.
func (c *cache) get(ctx context.Context, l *link, kind byte, level int, flags block.Flags) (*node, error) {
	if n := l.p.Load(); n != nil {
		n.touch()
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
	if n.link.gone {
		n.link.p.Store(nil) // who has read it has an old tree
		return
	}
	c.bytes += n.bytes()
	for turns := 2 * len(c.nodes); c.bytes > c.limit && len(c.nodes) >= minNodes && turns > 0; turns-- {
		c.hand %= len(c.nodes)
		if old := c.nodes[c.hand]; !old.used.Swap(false) && !old.parent() {
			c.remove(old)
		}
		c.hand++
	}
	c.nodes = append(c.nodes, n)
	n.place = len(c.nodes)
}

// remove forgets a node. The caller has mu.
func (c *cache) remove(n *node) {
	n.link.p.Store(nil)
	n.leave()
	for i := range n.near {
		if kid := n.near[i].Load(); kid != nil {
			kid.leave()
		}
	}
	c.bytes -= n.bytes()
	last := len(c.nodes) - 1
	c.nodes[last].place = n.place
	c.nodes[n.place-1] = c.nodes[last]
	c.nodes[last] = nil
	c.nodes, n.place = c.nodes[:last], 0
}

// drop forgets the node of a link that no tree has any more.
func (c *cache) drop(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.gone = true
	if n := l.p.Load(); n != nil && n.place > 0 {
		c.remove(n)
	}
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
