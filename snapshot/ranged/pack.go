package ranged

import (
	"fmt"

	"github.com/strata-storage/strata/snapshot"
)

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

// unfounded is the error of changes to entries that the tree has not.
func (p *packer) unfounded(c int64) error {
	return fmt.Errorf("entries of chunk %d are left out which the map has not: %w", c, snapshot.ErrDamaged)
}

func (p *packer) replace(c int64, old, list []entry) error {
	p.m.work++
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

func (p *packer) eraOp(o op) error {
	p.m.work++
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
