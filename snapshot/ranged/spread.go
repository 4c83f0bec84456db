package ranged

import (
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// A spread passes the records of a leaf on to a packer, as the changes before a
// bound have them.
type spread struct {
	p     *packer
	n     *node // nil: there are changes only
	bound key
	i     int
	// g are the chunks of the last record that are left, to is its era.
	g  group
	to uint64
}

// opsAtOnce bounds the changes of a step.
const opsAtOnce = 64

// step goes on by a record, or some changes.
func (s *spread) step() (done bool, err error) {
	m := s.p.m
	if s.g.n == 0 && s.n != nil && s.i < s.n.count {
		if err := s.take(); err != nil {
			return false, err
		}
	}
	left := s.g.n > 0
	for range opsAtOnce {
		end := s.bound
		if left {
			end = s.end()
		}
		if !m.before(end) {
			done = !left && (s.n == nil || s.i == s.n.count)
			g := s.g
			s.g = group{}
			return done, s.pass(g)
		}
		if m.t.kind == eraNode {
			err = s.eraOp(m.ops.next())
		} else {
			err = s.mapOp(m.ops.next())
		}
		if err != nil {
			return false, err
		}
		left = left && s.g.n > 0
		if left != (s.g.n > 0) || !left && s.n != nil && s.i < s.n.count {
			return false, nil // the next record comes first
		}
	}
	return false, nil
}

// take takes the records of the next chunks.
func (s *spread) take() error {
	m, n := s.p.m, s.n
	c, run := n.run(s.i)
	s.g = group{chunk: c, n: run}
	m.records--
	if m.t.kind == eraNode {
		s.to = n.keyAt(s.i).a
		s.i++
		return nil
	}
	list, err := m.open0(n, s.i)
	s.g.list = list
	for s.i++; s.i < n.count; s.i++ {
		if at, _ := n.run(s.i); at != c {
			break
		}
		m.records--
	}
	return err
}

// end is behind the chunks that are left.
func (s *spread) end() key {
	if s.p.m.t.kind == eraNode {
		return key{s.to, uint64(s.g.chunk + s.g.n)}
	}
	return key{uint64(s.g.chunk + s.g.n), 0}
}

func (s *spread) pass(g group) error {
	switch {
	case g.n == 0:
		return nil
	case s.p.m.t.kind == eraNode:
		return s.p.era(s.to, g.chunk, g.n)
	}
	return s.p.group(g)
}

// mapOp replaces the entries of a chunk, which may be one of those left.
func (s *spread) mapOp(o op) error {
	at, g := int64(o.k.a), s.g
	if g.n == 0 || at < g.chunk {
		if partial(o.list) {
			return s.p.unfounded(at)
		}
		return s.p.replace(at, nil, o.list)
	}
	if at > g.chunk {
		if err := s.p.group(group{g.chunk, at - g.chunk, g.list}); err != nil {
			return err
		}
	}
	s.g = group{at + 1, g.chunk + g.n - at - 1, moved(nil, g.list, at+1-g.chunk)}
	old, list := moved(nil, g.list, at-g.chunk), o.list
	if partial(list) {
		var found bool
		if list, found = settled(list, slices.Clone(old)); !found {
			return s.p.unfounded(at)
		}
	}
	return s.p.replace(at, old, list)
}

// eraOp adds a chunk to an era, or takes it away, which may be one of those
// left.
func (s *spread) eraOp(o op) error {
	at, g := int64(o.k.b), s.g
	if g.n == 0 || o.k.a != s.to || at < g.chunk {
		return s.p.eraOp(o)
	}
	s.p.m.work++
	if o.add {
		return nil
	}
	s.g = group{chunk: at + 1, n: g.chunk + g.n - at - 1}
	return s.p.era(s.to, g.chunk, at-g.chunk)
}

// open0 returns the entries that begin at a record, whose chain will be
// replaced.
func (m *merger) open0(n *node, i int) ([]entry, error) {
	if e := n.entryAt(i); e.where == snapshot.OnOrigin {
		return m.t.chain(m.ctx, e, nil, 0, func(l *link) { m.gone = append(m.gone, l) })
	}
	return m.t.entries(m.ctx, n, i, nil, 0)
}
