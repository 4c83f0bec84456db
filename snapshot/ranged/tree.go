package ranged

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A tree is a b+tree of a checkpoint. It never changes: a checkpoint makes
// another one, which has the nodes in common that stayed as they were.
type tree struct {
	kind  byte
	root  *link // nil without records
	level int   // of the root
	cache *cache
}

// maxLevel bounds the height of trees.
const maxLevel = 8

// A bound is a record of an inner node: its key is the first behind a leaf. Of
// the last leaf it has no node.
type bound struct {
	n *node
	i int
}

func (b bound) key() key {
	if b.n == nil {
		return key{max48, max48}
	}
	return b.n.keyAt(b.i)
}

// descend returns the leaf where a key is or would be, the position of the last
// record that is not behind it, or -1, and the bound of the leaf.
func (t *tree) descend(ctx context.Context, k key, flags block.Flags) (n *node, i int, end bound, err error) {
	n, err = t.cache.get(ctx, t.root, t.kind, t.level, flags)
	for level := t.level; err == nil; level-- {
		if i = n.search(k); level == 0 {
			return n, i, end, nil
		}
		if i = max(i, 0); i+1 < n.count {
			end = bound{n, i + 1}
		}
		n, err = t.cache.kid(ctx, n, i, flags)
	}
	return nil, 0, end, err
}

// find returns the entries of a chunk, appended to buf, with the number of
// chunks that continue them; or none, with the number of chunks up to the next
// that has some.
func (t *tree) find(ctx context.Context, c int64, buf []entry, flags block.Flags) (group, error) {
	if t.root == nil {
		return group{chunk: c, n: max48 - c}, nil
	}
	n, i, end, err := t.descend(ctx, key{uint64(c), max48}, flags)
	if err != nil {
		return group{}, err
	}
	if i >= 0 {
		if start, run := n.run(i); c < start+run {
			for i > 0 && int64(n.first(i-1)) == start {
				i--
			}
			list, err := t.entries(ctx, n, i, buf, flags)
			for j := range list {
				if list[j].where == snapshot.OnStore {
					list[j].slot += c - start
				}
			}
			return group{c, start + run - c, list}, err
		}
	}
	next := bound{n, i + 1}
	if i+1 == n.count {
		next = end
	}
	return group{chunk: c, n: int64(next.key().a) - c}, nil
}

// maxInline is how many entries of a chunk are in its leaf. If there are more
// the leaf has one record, which refers to a chain of nodes: its from is their
// checkpoint, its to the number of entries, its place the first of them, on no
// device. So the records of a chunk are always in one leaf.
const maxInline = 64

// entries returns the entries of the group that begins at record i.
func (t *tree) entries(ctx context.Context, n *node, i int, buf []entry, flags block.Flags) ([]entry, error) {
	c, _ := n.run(i)
	for ; i < n.count && int64(n.first(i)) == c; i++ {
		e := n.entryAt(i)
		if e.where == snapshot.OnOrigin {
			return t.chain(ctx, e, buf, flags, nil)
		}
		buf = append(buf, e)
	}
	return buf, nil
}

// chain reads the entries that a record refers to, and calls seen with each of
// the nodes.
func (t *tree) chain(ctx context.Context, head entry, buf []entry, flags block.Flags, seen func(l *link)) ([]entry, error) {
	if flags&block.NoWait != 0 {
		return nil, block.ErrWouldBlock
	}
	b := make([]byte, blockSize)
	next, left := head.slot, int64(head.to)
	for left > 0 {
		l := &link{addr: next * blockSize, gen: uint64(head.from)}
		if !t.cache.geo.valid(l.addr) {
			return nil, fmt.Errorf("a list of entries goes on at %d: %w", l.addr, snapshot.ErrDamaged)
		}
		if err := t.cache.dev.ReadAt(ctx, b, l.addr, 0); err != nil {
			return nil, err
		}
		n, err := t.cache.geo.parseNode(b, l, listNode, 0)
		if err != nil {
			return nil, err
		}
		if seen != nil {
			seen(l)
		}
		next = 0
		for i := range n.count {
			e := n.entryAt(i)
			if i == 0 && e.where == snapshot.OnOrigin {
				next = e.slot
				continue
			}
			buf = append(buf, e)
			left--
		}
	}
	if left < 0 {
		return nil, fmt.Errorf("a list has %d entries too many: %w", -left, snapshot.ErrDamaged)
	}
	return buf, nil
}

// eraRun returns the first run of the eras that has something at or behind a
// key, from there on.
func (t *tree) eraRun(ctx context.Context, k key) (to snapshot.ID, c, n int64, ok bool, err error) {
	for t.root != nil {
		leaf, i, end, err := t.descend(ctx, k, 0)
		if err != nil {
			return 0, 0, 0, false, err
		}
		if i >= 0 {
			at := leaf.keyAt(i)
			if c, n := leaf.run(i); at.a == k.a && int64(k.b) < c+n {
				return snapshot.ID(at.a), int64(k.b), c + n - int64(k.b), true, nil
			}
		}
		if i+1 < leaf.count {
			c, n := leaf.run(i + 1)
			return snapshot.ID(leaf.keyAt(i + 1).a), c, n, true, nil
		}
		if end.n == nil {
			break
		}
		k = end.key()
	}
	return 0, 0, 0, false, nil
}
