package ranged

import (
	"context"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// An op changes a tree. In the map it replaces the entries of chunk k.a, with
// k.b the greatest number so that it belongs to the node which has the chunk's
// records; among the eras it adds or removes k.
type op struct {
	k    key
	list []entry
	add  bool
}

func mapOp(c int64, list []entry) op { return op{k: key{uint64(c), max48}, list: list} }

// A ref is a record of an inner node.
type ref struct {
	k key
	l *link
}

// A merger makes a tree out of another one and a sorted list of changes. It
// reads and writes the leaves that change and the nodes above them only.
type merger struct {
	ctx context.Context
	t   *tree
	gen uint64
	// take allocates a block, put writes a node.
	take func() (int64, error)
	put  func(n *node) error
	// changed is told what became of a chunk of the map.
	changed func(c int64, old, list []entry)
	// gone are the nodes that the new tree has not, records is how many more
	// records it has.
	gone    []*link
	records int64
}

// merge returns the new tree.
func (m *merger) merge(ops []op) (*tree, error) {
	if len(ops) == 0 {
		return m.t, nil
	}
	t := &tree{kind: m.t.kind, cache: m.t.cache, level: m.t.level}
	var refs []ref
	var err error
	if m.t.root == nil {
		p := packer{m: m}
		if err = p.leaf(nil, ops); err == nil {
			refs, err = p.finish()
		}
	} else {
		refs, err = m.node(m.t.root, m.t.level, ops)
	}
	if err != nil || len(refs) == 0 {
		t.level = 0
		return t, err
	}
	for len(refs) > 1 {
		t.level++
		if refs, err = m.inner(t.level, refs); err != nil {
			return nil, err
		}
	}
	t.root = refs[0].l
	for t.level > 0 {
		n, err := t.cache.get(m.ctx, t.root, t.kind, t.level, 0)
		if err != nil {
			return nil, err
		}
		if n.count > 1 {
			break
		}
		m.gone = append(m.gone, t.root)
		t.root, t.level = n.kids[0], t.level-1
	}
	return t, nil
}

// node makes the nodes that take the place of one.
func (m *merger) node(l *link, level int, ops []op) ([]ref, error) {
	n, err := m.open(l, level)
	if err != nil {
		return nil, err
	}
	p := packer{m: m}
	if level == 0 {
		if err := p.leaf(n, ops); err != nil {
			return nil, err
		}
		return p.finish()
	}
	var out []ref
	for i, kid := range n.kids {
		mine := ops
		if i+1 < n.count {
			next := n.keyAt(i + 1)
			j, _ := slices.BinarySearchFunc(ops, next, func(o op, k key) int {
				if o.k.less(k) {
					return -1
				}
				return 1
			})
			mine = ops[:j]
		}
		ops = ops[len(mine):]
		var refs []ref
		switch {
		case level > 1 && len(mine) > 0:
			refs, err = m.node(kid, level-1, mine)
		case len(mine) > 0 || p.small():
			var leaf *node
			if leaf, err = m.open(kid, 0); err == nil {
				err = p.leaf(leaf, mine)
			}
		default:
			if refs, err = p.finish(); err == nil {
				refs = append(refs, ref{n.keyAt(i), kid})
			}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, refs...)
	}
	rest, err := p.finish()
	if err != nil {
		return nil, err
	}
	return m.inner(level, append(out, rest...))
}

// open reads a node that will be replaced.
func (m *merger) open(l *link, level int) (*node, error) {
	n, err := m.t.cache.get(m.ctx, l, m.t.kind, level, 0)
	m.gone = append(m.gone, l)
	return n, err
}

// inner makes inner nodes of about the same size.
func (m *merger) inner(level int, refs []ref) (out []ref, err error) {
	const most = nodeSpace / innerRecord
	for nodes := (len(refs) + most - 1) / most; nodes > 0; nodes-- {
		k := (len(refs) + nodes - 1) / nodes
		n, err := m.fresh(m.t.kind, level)
		if err != nil {
			return nil, err
		}
		for _, x := range refs[:k] {
			r := n.add()
			put48(r, x.k.a)
			put48(r[6:], x.k.b)
			put48(r[12:], uint64(x.l.addr/blockSize))
			put48(r[18:], x.l.gen)
			n.kids = append(n.kids, x.l)
		}
		if err := m.done(n); err != nil {
			return nil, err
		}
		out = append(out, ref{refs[0].k, n.link})
		refs = refs[k:]
	}
	return out, nil
}

func (m *merger) fresh(kind byte, level int) (*node, error) {
	addr, err := m.take()
	if err != nil {
		return nil, err
	}
	return newNode(m.t.cache.geo, kind, level, &link{addr: addr, gen: m.gen}), nil
}

// done writes a node and keeps it in memory.
func (m *merger) done(n *node) error {
	n.seal()
	if n.kind != listNode {
		n.link.p.Store(n)
		m.t.cache.add(n)
	}
	return m.put(n)
}

// A packer makes leaves of a stream of records.
type packer struct {
	m *merger
	// buf has records, starts where those of a chunk begin.
	buf    []byte
	starts []int
	refs   []ref
	// last is what may be continued.
	last group
	to   snapshot.ID
}

func (p *packer) size() int { return recordSize(p.m.t.kind, 0) }
func (p *packer) most() int { return nodeSpace / p.size() }

// small reports whether there are so few records that the next leaf should be
// joined.
func (p *packer) small() bool {
	n := len(p.starts)
	if p.last.n > 0 {
		n += max(len(p.last.list), 1)
	}
	return n > 0 && len(p.refs) == 0 && n < p.most()/4
}

// leaf passes on the records of a leaf as ops change them.
func (p *packer) leaf(n *node, ops []op) error {
	if p.m.t.kind == eraNode {
		return p.eraLeaf(n, ops)
	}
	for i := 0; n != nil && i < n.count; {
		c, run := n.run(i)
		list, err := p.m.open0(n, i)
		if err != nil {
			return err
		}
		for first := c; i < n.count; i++ {
			if at, _ := n.run(i); at != first {
				break
			}
			p.m.records--
		}
		g := group{c, run, list}
		for len(ops) > 0 && int64(ops[0].k.a) < g.chunk+g.n {
			o := ops[0]
			ops = ops[1:]
			at := int64(o.k.a)
			if at < g.chunk {
				err = p.replace(at, nil, o.list)
			} else {
				if at > g.chunk {
					err = p.group(group{g.chunk, at - g.chunk, g.list})
				}
				if err == nil {
					err = p.replace(at, moved(nil, g.list, at-g.chunk), o.list)
				}
				g = group{at + 1, g.chunk + g.n - at - 1, moved(nil, g.list, at+1-g.chunk)}
			}
			if err != nil {
				return err
			}
		}
		if g.n > 0 {
			if err := p.group(g); err != nil {
				return err
			}
		}
	}
	for _, o := range ops {
		if err := p.replace(int64(o.k.a), nil, o.list); err != nil {
			return err
		}
	}
	return nil
}

// open0 returns the entries that begin at a record, whose chain will be
// replaced.
func (m *merger) open0(n *node, i int) ([]entry, error) {
	if e := n.entryAt(i); e.where == snapshot.OnOrigin {
		return m.t.chain(m.ctx, e, nil, 0, func(l *link) { m.gone = append(m.gone, l) })
	}
	return m.t.entries(m.ctx, n, i, nil, 0)
}

func (p *packer) replace(c int64, old, list []entry) error {
	p.m.changed(c, old, list)
	if len(list) == 0 {
		return nil
	}
	return p.group(group{c, 1, list})
}

// group passes on chunks, joined to the last ones if they continue them.
func (p *packer) group(g group) error {
	l := &p.last
	if l.n > 0 && l.chunk+l.n == g.chunk && l.n+g.n <= maxGroup && continues(l.list, g.list, l.n) {
		l.n += g.n
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	*l = g
	return nil
}

func (p *packer) eraLeaf(n *node, ops []op) error {
	for i := 0; n != nil && i < n.count; i++ {
		to := n.keyAt(i).a
		c, run := n.run(i)
		p.m.records--
		for len(ops) > 0 && ops[0].k.less(key{to, uint64(c + run)}) {
			o := ops[0]
			ops = ops[1:]
			if at := int64(o.k.b); o.k.a == to && at >= c {
				if o.add {
					continue
				}
				if err := p.era(to, c, at-c); err != nil {
					return err
				}
				c, run = at+1, c+run-at-1
				continue
			}
			if err := p.eraOp(o); err != nil {
				return err
			}
		}
		if err := p.era(to, c, run); err != nil {
			return err
		}
	}
	for _, o := range ops {
		if err := p.eraOp(o); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) eraOp(o op) error {
	if !o.add {
		return nil
	}
	return p.era(o.k.a, int64(o.k.b), 1)
}

// era passes on a run of an era.
func (p *packer) era(to uint64, c, n int64) error {
	l := &p.last
	switch {
	case n == 0:
		return nil
	case l.n > 0 && uint64(p.to) == to && l.chunk+l.n == c && l.n+n <= maxGroup:
		l.n += n
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.to, *l = snapshot.ID(to), group{chunk: c, n: n}
	return nil
}

// flush makes records of the last group.
func (p *packer) flush() error {
	l := &p.last
	if l.n == 0 {
		return nil
	}
	size := p.size()
	at := len(p.starts)
	record := func() []byte {
		p.buf = append(p.buf, make([]byte, size)...)
		p.starts = append(p.starts, at)
		return p.buf[len(p.buf)-size:]
	}
	switch {
	case p.m.t.kind == eraNode:
		r := record()
		put48(r, uint64(p.to))
		put48(r[6:], uint64(l.chunk))
		le.PutUint16(r[12:], uint16(l.n))
	case len(l.list) > maxInline:
		e, err := p.m.list(l)
		if err != nil {
			return err
		}
		putEntry(record(), l.chunk, l.n, &e)
	default:
		for i := range l.list {
			putEntry(record(), l.chunk, l.n, &l.list[i])
		}
	}
	p.m.records += int64(len(p.starts) - at)
	*l = group{}
	for len(p.starts) >= 2*p.most() {
		if err := p.cut(p.most()); err != nil {
			return err
		}
	}
	return nil
}

// list writes the chain of the entries of a group and returns what refers to it.
func (m *merger) list(g *group) (entry, error) {
	const most = nodeSpace/mapRecord - 1
	head := entry{from: snapshot.ID(m.gen), to: snapshot.ID(len(g.list))}
	for left := g.list; len(left) > 0; {
		// From the end, as each refers to the next.
		k := (len(left) - 1) / most * most
		n, err := m.fresh(listNode, 0)
		if err != nil {
			return head, err
		}
		if head.slot != 0 {
			putEntry(n.add(), g.chunk, g.n, &entry{slot: head.slot})
		}
		for i := range left[k:] {
			putEntry(n.add(), g.chunk, g.n, &left[k+i])
		}
		if err := m.done(n); err != nil {
			return head, err
		}
		head.slot, left = n.link.addr/blockSize, left[:k]
	}
	return head, nil
}

// cut makes a leaf of at most n records, without cutting those of a chunk.
func (p *packer) cut(n int) error {
	if n < len(p.starts) {
		n = p.starts[n]
	}
	leaf, err := p.m.fresh(p.m.t.kind, 0)
	if err != nil {
		return err
	}
	leaf.count = n
	copy(leaf.b[nodeHeader:], p.buf[:n*leaf.size])
	if err := p.m.done(leaf); err != nil {
		return err
	}
	p.refs = append(p.refs, ref{leaf.keyAt(0), leaf.link})
	p.buf = append([]byte{}, p.buf[n*leaf.size:]...)
	p.starts = append([]int{}, p.starts[n:]...)
	for i := range p.starts {
		p.starts[i] -= n
	}
	return nil
}

// finish makes leaves of what is left, of about the same size, and returns all.
func (p *packer) finish() ([]ref, error) {
	if err := p.flush(); err != nil {
		return nil, err
	}
	for n := len(p.starts); n > 0; n = len(p.starts) {
		if n > p.most() {
			n /= 2
		}
		if err := p.cut(n); err != nil {
			return nil, err
		}
	}
	refs := p.refs
	p.refs = nil
	return refs, nil
}
