package ranged

import (
	"context"
)

// An op changes a tree. In the map it replaces the entries of chunk k.a, with
// k.b the greatest number so that it belongs to the node which has the chunk's
// records; among the eras it adds or removes k.
type op struct {
	k    key
	list []entry
	add  bool
}

// changes are the ops of a tree, in order.
type changes interface {
	peek() (key, bool)
	next() op
}

// A ref is a record of an inner node.
type ref struct {
	k key
	l *link
}

// A merger makes a tree out of another one and changes. It reads and writes the
// leaves that change and the nodes above them only, a little at a time.
type merger struct {
	ctx context.Context
	t   *tree
	ops changes
	gen uint64
	// take allocates a block, put writes a node.
	take func() (int64, error)
	put  func(n *sheet) error
	// changed is told what became of a chunk of the map.
	changed func(c int64, old, list []entry)
	// gone are the nodes that the new tree has not, records is how many more
	// records it has.
	gone    []*link
	records int64
	// begun: it has. path are the nodes from the root down that are being
	// replaced, leaf what is passed on, top makes the leaves if there is no
	// node above, refs is what has become of the root.
	begun bool
	path  []*branch
	leaf  *spread
	top   packer
	refs  []ref
	// work counts what was done, in records.
	work int
}

// A branch is an inner node that is being replaced, of which i kids are done.
type branch struct {
	n     *node
	level int
	i     int
	bound key
	out   []ref
	p     packer
}

// nodeWork is what it costs to make a node, more than its records do.
const nodeWork = 64

// step goes on by at most a node, or opsAtOnce changes. It returns the new tree
// when all is done.
func (m *merger) step() (t *tree, err error) {
	m.work++
	switch {
	case !m.begun:
		m.begun = true
		return m.begin()
	case m.leaf != nil:
		done, err := m.leaf.step()
		if done {
			m.leaf = nil
		}
		return nil, err
	case len(m.path) > 0:
		return nil, m.branch(m.path[len(m.path)-1])
	}
	return m.end()
}

func (m *merger) begin() (*tree, error) {
	m.top.m = m
	end := key{max48, max48 + 1}
	switch _, ok := m.ops.peek(); {
	case !ok:
		return m.t, nil
	case m.t.root == nil:
		m.leaf = &spread{p: &m.top, bound: end}
		return nil, nil
	}
	n, err := m.open(m.t.root, m.t.level)
	if err != nil {
		return nil, err
	}
	if m.t.level == 0 {
		m.leaf = &spread{p: &m.top, n: n, bound: end}
	} else {
		m.path = []*branch{{n: n, level: m.t.level, bound: end, p: packer{m: m}}}
	}
	return nil, nil
}

// end makes the nodes above those that have taken the place of the root.
func (m *merger) end() (*tree, error) {
	t := &tree{kind: m.t.kind, cache: m.t.cache, level: m.t.level}
	refs, err := m.top.finish()
	if refs = append(m.refs, refs...); err != nil || len(refs) == 0 {
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

// before reports whether there are changes before a key.
func (m *merger) before(k key) bool {
	next, ok := m.ops.peek()
	return ok && next.less(k)
}

// branch goes on with a node by one kid.
func (m *merger) branch(b *branch) error {
	if b.i == b.n.count {
		return m.leave(b)
	}
	kid, bound := b.n.kids[b.i], b.bound
	if b.i+1 < b.n.count {
		bound = b.n.keyAt(b.i + 1)
	}
	b.i++
	switch some := m.before(bound); {
	case b.level > 1 && some:
		n, err := m.open(kid, b.level-1)
		m.path = append(m.path, &branch{n: n, level: b.level - 1, bound: bound, p: packer{m: m}})
		return err
	case some || b.p.small():
		n, err := m.open(kid, 0)
		m.leaf = &spread{p: &b.p, n: n, bound: bound}
		return err
	}
	refs, err := b.p.finish()
	b.out = append(append(b.out, refs...), ref{b.n.keyAt(b.i - 1), kid})
	return err
}

// leave ends with a node, whose kids are done.
func (m *merger) leave(b *branch) error {
	refs, err := b.p.finish()
	if err != nil {
		return err
	}
	if refs, err = m.inner(b.level, append(b.out, refs...)); err != nil {
		return err
	}
	m.path = m.path[:len(m.path)-1]
	if n := len(m.path); n > 0 {
		m.path[n-1].out = append(m.path[n-1].out, refs...)
	} else {
		m.refs = refs
	}
	return nil
}

// open reads a node that will be replaced.
func (m *merger) open(l *link, level int) (*node, error) {
	n, err := m.t.cache.get(m.ctx, l, m.t.kind, level, 0)
	m.gone = append(m.gone, l)
	if err == nil {
		m.work += n.count
	}
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

func (m *merger) fresh(kind byte, level int) (*sheet, error) {
	m.work += nodeWork
	addr, err := m.take()
	if err != nil {
		return nil, err
	}
	return newSheet(m.t.cache.geo, kind, level, &link{addr: addr, gen: m.gen}), nil
}

// done writes a node and keeps it in memory.
func (m *merger) done(n *sheet) error {
	n.seal()
	if n.kind != listNode {
		x := n.node()
		n.link.p.Store(x)
		m.t.cache.add(x)
	}
	return m.put(n)
}
