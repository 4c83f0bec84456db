package ranged

import (
	"cmp"
	"fmt"

	"github.com/strata-storage/strata/snapshot"
)

// trees are what a checkpoint has of the map. They never change.
type trees struct {
	chunks, eras *tree
	// seq is the last commit in them; records and runs are how many they
	// have.
	seq           uint64
	records, runs int64
}

// state is all that a commit makes durable. Records change it.
type state struct {
	geo *geometry
	roll
	space space
	// mem has what has changed since frozen was made, and that what has
	// changed since the trees were, as long as the next ones are not ready.
	mem, frozen *memtable
	*trees
	// doomed are in order and apart; the list never changes but is replaced.
	// Since commit doomedAt entries are not
	// of less use.
	doomed   []span
	doomedAt uint64
	// deletions counts them since the state was read.
	deletions uint64
	// listed counts changes of snapshots and values.
	listed uint64
	values map[string][]byte
	// valueBytes is what keys and values take.
	valueBytes int64
	// seq is the last commit that was made; what is changed now belongs to
	// the next.
	seq uint64
}

func newState(g *geometry, c *cache) *state {
	return &state{geo: g, roll: roll{next: 1}, space: newSpace(g), mem: newMemtable(), values: map[string][]byte{},
		trees: &trees{chunks: &tree{kind: mapNode, cache: c}, eras: &tree{kind: eraNode, cache: c}}}
}

// recent returns the entries of a chunk that has changed since the trees were
// made, or what is left out of those that the tree has, in buf, which is empty.
func (s *state) recent(c int64, buf []entry) ([]entry, bool) {
	list, ok := s.mem.get(c, buf)
	if ok && (s.frozen == nil || !partial(list)) {
		return list, true
	}
	list, more := s.frozen.get(c, list)
	return list, ok || more
}

// cold returns an error if bits must be read before a record is carried out.
func (s *state) cold(r *record) error {
	if f := &r.fall; r.op == opDrop && f.slot >= 0 {
		return s.space.cold(f.slot, f.n)
	}
	for _, slot := range r.freed {
		if err := s.space.cold(slot, r.n); err != nil {
			return err
		}
	}
	var room [4]int64
	for _, slot := range newSlots(room[:0], r.list) {
		if err := s.space.cold(slot, r.n); err != nil {
			return err
		}
	}
	return nil
}

// do carries out a record, for which no bits are cold. An error means that the
// record cannot follow those before it.
func (s *state) do(r *record) error {
	switch r.op {
	case opMap:
		return s.doMap(r)
	case opCreate:
		for _, id := range r.ids {
			s.live, s.next = append(s.live, id), id+1
		}
		s.listed++
	case opDelete:
		s.delete(r.ids)
		s.doomedAt = s.seq + 1
		s.deletions++
		s.listed++
	case opCursor:
		s.advance(r.cursor)
	case opPut:
		s.put(r.name, r.value)
		s.listed++
	case opDrop:
		return s.doDrop(&r.fall)
	}
	return nil
}

func (s *state) doMap(r *record) error {
	var room [4]int64
	for _, slot := range newSlots(room[:0], r.list) {
		for i := range r.n {
			if err := s.space.claim(slot + i); err != nil {
				return err
			}
		}
	}
	for _, slot := range r.freed {
		for i := range r.n {
			if err := s.space.leave(slot + i); err != nil {
				return err
			}
		}
	}
	for i := range r.n {
		old, _ := s.recent(r.chunk+i, nil)
		var room []entry
		if i == r.n-1 {
			room = r.list[:0]
		} else {
			room = make([]entry, 0, len(r.list))
		}
		list := moved(room, r.list, i)
		for j := range list {
			e := &list[j]
			if e.born == fresh {
				e.born = s.seq + 1
				continue
			}
			e.born = 0
			for k := range old {
				if old[k].same(e) {
					e.born = old[k].born
				}
			}
		}
		s.mem.set(r.chunk+i, list)
	}
	return nil
}

func (s *state) put(name string, value []byte) {
	if old, ok := s.values[name]; ok {
		s.valueBytes -= int64(len(name) + len(old))
		delete(s.values, name)
	}
	if value != nil {
		s.values[name] = value
		s.valueBytes += int64(len(name) + len(value))
	}
}

// redo carries out a record that was read: it says no to what cannot be.
func (s *state) redo(r *record) error {
	var err error
	switch r.op {
	case opMap:
		err = s.validate(r.list, s.geo, r.n)
	case opCreate:
		if len(r.ids) != 1 || r.ids[0] != s.next || s.next >= head-1 {
			err = fmt.Errorf("snapshots %d are created, expected %d", r.ids, s.next)
		}
	case opDelete:
		for _, id := range r.ids {
			err = cmp.Or(err, s.exists(id))
		}
	case opDrop:
		if to := r.fall.to; to == 0 || to >= s.next {
			err = fmt.Errorf("an entry up to snapshot %d is left out, the next one is %d", to, s.next)
		}
	}
	if err == nil {
		err = s.do(r)
	}
	if err != nil {
		return fmt.Errorf("the log contradicts itself: %w: %w", err, snapshot.ErrDamaged)
	}
	return nil
}
