package ranged

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// head is the origin as a snapshot that is yet to be taken.
const head = snapshot.ID(math.MaxUint64)

// An entry says that the snapshots from one to another have a place. An entry
// up to head is the origin's as well, and will be that of the snapshots to come.
type entry struct {
	from, to snapshot.ID
	where    snapshot.Where
	slot     int64
	// born is the commit that makes the place durable.
	born uint64
}

func (e *entry) same(x *entry) bool { return e.where == x.where && e.slot == x.slot }

// state is all that a commit makes durable. Records change it.
type state struct {
	geo    *geometry
	space  space
	chunks map[int64][]entry
	// entries is their number.
	entries int64
	// live are the snapshots, in order; next is the ID of the next one.
	live []snapshot.ID
	next snapshot.ID
	// dead: there may be entries of deleted snapshots, at chunks from cursor
	// on.
	dead   bool
	cursor int64
	values map[string][]byte
	// valueBytes is what keys and values take.
	valueBytes int64
	// seq is the last commit that was made; what is changed now belongs to
	// the next.
	seq uint64
}

func newState(g *geometry) *state {
	return &state{geo: g, space: newSpace(g), chunks: map[int64][]entry{}, next: 1, values: map[string][]byte{}}
}

// internal returns how entries name a view.
func internal(v snapshot.ID) snapshot.ID {
	if v == snapshot.Origin {
		return head
	}
	return v
}

func (s *state) exists(v snapshot.ID) error {
	if _, ok := slices.BinarySearch(s.live, v); v == snapshot.Origin || ok {
		return nil
	}
	return fmt.Errorf("snapshot %d: %w", v, snapshot.ErrNoSnapshot)
}

// users returns how many views from one to another there are.
func (s *state) users(from, to snapshot.ID) int {
	if from > to {
		return 0
	}
	i, _ := slices.BinarySearch(s.live, from)
	if to == head {
		return len(s.live) - i + 1
	}
	j, _ := slices.BinarySearch(s.live, to+1)
	return j - i
}

// find returns the entry of a chunk that covers v, or -1.
func find(all []entry, v snapshot.ID) int {
	i, _ := slices.BinarySearchFunc(all, v, func(e entry, v snapshot.ID) int { return cmp.Compare(e.to, v) })
	if i < len(all) && all[i].from <= v {
		return i
	}
	return -1
}

// onOrigin returns how many snapshots have the origin device as the place of a
// chunk.
func (s *state) onOrigin(c int64) int {
	n := len(s.live)
	for _, e := range s.chunks[c] {
		n -= s.users(e.from, min(e.to, s.next-1))
	}
	return n
}

// gaps returns the ranges of snapshots that lie on the origin device.
func (s *state) gaps(c int64) (all []gap) {
	from := snapshot.ID(1)
	for _, e := range s.chunks[c] {
		if s.users(from, e.from-1) > 0 {
			all = append(all, gap{from: from, to: e.from - 1})
		}
		if from = e.to + 1; e.to == head {
			return all
		}
	}
	if s.users(from, s.next-1) > 0 {
		all = append(all, gap{from: from, to: s.next - 1})
	}
	return all
}

// keep sets the entries of a chunk.
func (s *state) keep(c int64, all []entry) {
	s.entries += int64(len(all) - len(s.chunks[c]))
	if len(all) == 0 {
		delete(s.chunks, c)
	} else {
		s.chunks[c] = all
	}
}

func insert(all []entry, e entry) []entry {
	i, _ := slices.BinarySearchFunc(all, e.from, func(e entry, v snapshot.ID) int { return cmp.Compare(e.from, v) })
	return slices.Insert(all, i, e)
}

func (s *state) drop(e entry) {
	if e.where == snapshot.OnStore {
		s.space.drop(e.slot)
	}
}

// splits reports whether v is in the middle of an entry: if it leaves, others
// remain on both sides.
func (s *state) splits(e entry, v snapshot.ID) bool {
	return v != head && s.users(e.from, v-1) > 0 && s.users(v+1, e.to) > 0
}

// replace gives v a place, and the snapshots behind it, if they are apart from
// those before it then, the place spare if that is not -1.
func (s *state) replace(c int64, v snapshot.ID, e entry, spare int64) {
	e.from, e.to, e.born = v, v, s.seq+1
	if v == head {
		e.from = s.next
	}
	all := slices.Clone(s.chunks[c])
	if i := find(all, v); i >= 0 {
		old := all[i]
		all = slices.Delete(all, i, i+1)
		left := s.users(old.from, e.from-1) > 0
		right := v != head && s.users(v+1, old.to) > 0
		rest := entry{v + 1, old.to, old.where, old.slot, old.born}
		if left && right && old.where == snapshot.OnStore {
			if spare >= 0 {
				rest.slot, rest.born, spare = spare, s.seq+1, -1
			} else {
				s.space.more[old.slot]++
			}
		}
		if left {
			all = insert(all, entry{old.from, e.from - 1, old.where, old.slot, old.born})
		}
		if right {
			all = insert(all, rest)
		}
		if !left && !right {
			s.drop(old)
		}
	}
	if spare >= 0 {
		s.space.drop(spare)
	}
	s.keep(c, insert(all, e))
}

// home gives the origin, v, and all who share v's place the origin device.
func (s *state) home(c int64, v snapshot.ID) {
	all := s.chunks[c]
	i := find(all, v)
	kept := make([]entry, 0, len(all))
	for _, e := range all {
		switch {
		case i >= 0 && e.same(&all[i]):
			s.drop(e)
		case e.to == head && s.users(e.from, s.next-1) == 0:
			s.drop(e)
		case e.to == head:
			e.to = s.next - 1
			fallthrough
		default:
			kept = append(kept, e)
		}
	}
	s.keep(c, kept)
}

// prune drops the entries of a chunk that nobody uses.
func (s *state) prune(c int64) {
	kept := make([]entry, 0, len(s.chunks[c]))
	for _, e := range s.chunks[c] {
		if s.users(e.from, e.to) > 0 {
			kept = append(kept, e)
		} else {
			s.drop(e)
		}
	}
	s.keep(c, kept)
}

// useless reports whether a chunk has entries that nobody uses.
func (s *state) useless(c int64) bool {
	return slices.ContainsFunc(s.chunks[c], func(e entry) bool { return s.users(e.from, e.to) == 0 })
}

// do carries out a record whose places are taken.
func (s *state) do(r *record) {
	switch r.op {
	case opSet:
		for i := range r.n {
			e, spare := entry{where: r.where}, int64(-1)
			if r.slot >= 0 {
				e.slot = r.slot + i
			}
			if r.spare >= 0 {
				spare = r.spare + i
			}
			s.replace(r.chunk+i, internal(r.view), e, spare)
		}
	case opDetach:
		for i := range r.n {
			all := slices.Clone(s.chunks[r.chunk+i])
			for j, g := range r.gaps {
				if j > 0 && g.slot == r.gaps[0].slot {
					s.space.more[g.slot+i]++
				}
				all = insert(all, entry{g.from, g.to, snapshot.OnStore, g.slot + i, s.seq + 1})
			}
			s.keep(r.chunk+i, all)
		}
	case opHome:
		for i := range r.n {
			s.home(r.chunk+i, internal(r.view))
		}
	case opCreate:
		for _, id := range r.ids {
			s.live, s.next = append(slices.Clip(s.live), id), id+1
		}
	case opDelete:
		s.live = slices.DeleteFunc(slices.Clone(s.live), func(id snapshot.ID) bool { return slices.Contains(r.ids, id) })
		s.dead, s.cursor = true, 0
	case opPrune:
		for _, c := range r.chunks {
			s.prune(c)
		}
		s.dead, s.cursor = r.dead, r.cursor
	case opPut:
		s.put(r.key, r.value)
	}
}

func (s *state) put(key string, value []byte) {
	if old, ok := s.values[key]; ok {
		s.valueBytes -= int64(len(key) + len(old))
		delete(s.values, key)
	}
	if value != nil {
		s.values[key] = value
		s.valueBytes += int64(len(key) + len(value))
	}
}

// redo carries out a record that was read: it says no to what cannot be.
func (s *state) redo(r *record) error {
	var err error
	switch r.op {
	case opSet:
		if err = s.exists(r.view); err == nil && r.slot >= 0 {
			err = s.space.claim(r.slot, r.n)
		}
		if err == nil && r.spare >= 0 {
			err = s.space.claim(r.spare, r.n)
		}
	case opDetach:
		err = s.checkGaps(r)
	case opHome:
		err = s.exists(r.view)
	case opCreate:
		if len(r.ids) != 1 || r.ids[0] != s.next || s.next >= head-1 {
			err = fmt.Errorf("snapshots %d are created, expected %d", r.ids, s.next)
		}
	case opDelete:
		for _, id := range r.ids {
			err = cmp.Or(err, s.exists(id))
		}
	}
	if err != nil {
		return fmt.Errorf("the log contradicts itself: %w: %w", err, snapshot.ErrDamaged)
	}
	s.do(r)
	return nil
}

// checkGaps takes the places of a detachment that was read.
func (s *state) checkGaps(r *record) error {
	for i := range r.n {
		last := snapshot.ID(0)
		for _, g := range r.gaps {
			if g.from <= last || g.to < g.from || g.to >= s.next || s.overlap(s.chunks[r.chunk+i], g) {
				return fmt.Errorf("chunk %d: snapshots %d to %d are not on the origin", r.chunk+i, g.from, g.to)
			}
			last = g.to
		}
	}
	for j, g := range r.gaps {
		if j > 0 && g.slot == r.gaps[0].slot {
			continue
		}
		if err := s.space.claim(g.slot, r.n); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) overlap(all []entry, g gap) bool {
	return slices.ContainsFunc(all, func(e entry) bool { return e.from <= g.to && g.from <= e.to })
}
