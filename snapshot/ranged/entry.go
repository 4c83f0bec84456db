package ranged

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// head is the origin as a snapshot that is yet to be taken.
const head = snapshot.ID(1<<48 - 1)

// An entry says that the snapshots from one to another have a place. An entry
// up to head is the origin's as well, and will be that of the snapshots to come.
type entry struct {
	from, to snapshot.ID
	where    snapshot.Where
	slot     int64
	// born is the commit that makes the place durable, 0 if the tree has it.
	born uint64
}

func (e *entry) same(x *entry) bool { return e.where == x.where && e.slot == x.slot }

// The entries of a chunk are apart and in order. Those with the same place share
// it: who uses a place is known from the entries of its chunk alone, so that
// nothing has to be counted.

// A group is a number of chunks with the same entries, but that the places of
// each are behind those of the one before. list is that of the first. Without
// entries a chunk lies on the origin device in all views.
type group struct {
	chunk, n int64
	list     []entry
}

// moved appends the entries of the i-th chunk of a group to buf.
func moved(buf, list []entry, i int64) []entry {
	buf = append(buf, list...)
	for j := range buf {
		if buf[j].where == snapshot.OnStore {
			buf[j].slot += i
		}
	}
	return buf
}

// continues reports whether b are the entries i chunks behind a.
func continues(a, b []entry, i int64) bool {
	if len(a) != len(b) {
		return false
	}
	for j := range a {
		x, y := &a[j], &b[j]
		slot := x.slot
		if x.where == snapshot.OnStore {
			slot += i
		}
		if x.from != y.from || x.to != y.to || x.where != y.where || slot != y.slot {
			return false
		}
	}
	return true
}

// find returns the entry of a chunk that covers v, or -1.
func find(all []entry, v snapshot.ID) int {
	for i := range all {
		if all[i].to >= v {
			if all[i].from <= v {
				return i
			}
			return -1
		}
	}
	return -1
}

func insert(all []entry, e entry) []entry {
	i, _ := slices.BinarySearchFunc(all, e.from, func(e entry, v snapshot.ID) int { return cmp.Compare(e.from, v) })
	return slices.Insert(all, i, e)
}

// sharers returns how many entries have the place of entry i.
func sharers(all []entry, i int) (n int) {
	for j := range all {
		if all[j].same(&all[i]) {
			n++
		}
	}
	return n
}

// slotsOf appends the slots of entries to slots, each once.
func slotsOf(slots []int64, all []entry) []int64 {
	for i := range all {
		if all[i].where == snapshot.OnStore && !slices.Contains(slots, all[i].slot) {
			slots = append(slots, all[i].slot)
		}
	}
	return slots
}

// A roll has the snapshots that exist, in order, and the next ID. Copies of it
// stay as they are: what is in the list never changes. The newest roll may append
// to it, behind all that the copies see, so that a snapshot costs the same however
// many there are; whoever takes one out makes another list.
type roll struct {
	live []snapshot.ID
	next snapshot.ID
}

// internal returns how entries name a view.
func internal(v snapshot.ID) snapshot.ID {
	if v == snapshot.Origin {
		return head
	}
	return v
}

func (s *roll) exists(v snapshot.ID) error {
	if v == snapshot.Origin {
		return nil
	}
	if _, ok := slices.BinarySearch(s.live, v); ok {
		return nil
	}
	return fmt.Errorf("snapshot %d: %w", v, snapshot.ErrNoSnapshot)
}

// users returns how many views from one to another there are.
func (s *roll) users(from, to snapshot.ID) int {
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

// onOrigin returns how many snapshots have the origin device as their place.
func (s *roll) onOrigin(all []entry) int {
	n := len(s.live)
	for i := range all {
		n -= s.users(all[i].from, min(all[i].to, s.next-1))
	}
	return n
}

// alone reports whether entry i has one user, who shares its place with nobody.
func (s *roll) alone(all []entry, i int) bool {
	return s.users(all[i].from, all[i].to) == 1 && sharers(all, i) == 1
}

// gaps returns the ranges of snapshots that lie on the origin device.
func (s *roll) gaps(list []entry) (all []gap) {
	from := snapshot.ID(1)
	for i := range list {
		e := &list[i]
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

// splits reports whether v is in the middle of an entry: if it leaves, others
// remain on both sides.
func (s *roll) splits(e *entry, v snapshot.ID) bool {
	return v != head && s.users(e.from, v-1) > 0 && s.users(v+1, e.to) > 0
}

// replaced returns the entries after v got the place of e, and the snapshots
// behind it, if they are apart from those before it then, the place spare if
// that is not -1.
func (s *roll) replaced(old []entry, v snapshot.ID, e entry, spare int64) []entry {
	e.from, e.to = v, v
	if v == head {
		e.from = s.next
	}
	// Mostly one more, and kept for long.
	all := append(make([]entry, 0, len(old)+1), old...)
	if i := find(all, v); i >= 0 {
		was := all[i]
		all = slices.Delete(all, i, i+1)
		left := s.users(was.from, e.from-1) > 0
		right := v != head && s.users(v+1, was.to) > 0
		if left {
			all = insert(all, entry{was.from, e.from - 1, was.where, was.slot, was.born})
		}
		if right {
			rest := entry{v + 1, was.to, was.where, was.slot, was.born}
			if left && was.where == snapshot.OnStore && spare >= 0 {
				rest.slot, rest.born = spare, e.born
			}
			all = insert(all, rest)
		}
	}
	return insert(all, e)
}

// detached returns the entries after gaps got places, i chunks behind those
// noted.
func (s *roll) detached(old []entry, gaps []gap, i int64, born uint64) []entry {
	all := append(make([]entry, 0, len(old)+len(gaps)), old...)
	for _, g := range gaps {
		all = insert(all, entry{g.from, g.to, snapshot.OnStore, g.slot + i, born})
	}
	return all
}

// homed returns the entries after the origin, v, and all who share v's place
// got the origin device.
func (s *roll) homed(all []entry, v snapshot.ID) []entry {
	i := find(all, v)
	kept := make([]entry, 0, len(all))
	for _, e := range all {
		switch {
		case i >= 0 && e.same(&all[i]), e.to == head && s.users(e.from, s.next-1) == 0:
			continue
		case e.to == head:
			e.to = s.next - 1
		}
		kept = append(kept, e)
	}
	return kept
}

// validate says what is wrong with the entries of a chunk that were read.
func (s *roll) validate(all []entry, g *geometry, n int64) error {
	last := snapshot.ID(0)
	for i := range all {
		e := &all[i]
		switch {
		case e.from <= last || e.to < e.from || e.to != head && e.to >= s.next || e.from > s.next:
			return fmt.Errorf("the entry for snapshots %d to %d follows %d, the next snapshot is %d: %w", e.from, e.to, last, s.next, snapshot.ErrDamaged)
		case e.where != snapshot.OnStore && e.where != snapshot.Hole || e.where == snapshot.Hole && e.slot != 0:
			return fmt.Errorf("snapshots %d to %d have place %d of kind %d: %w", e.from, e.to, e.slot, e.where, snapshot.ErrDamaged)
		case e.where == snapshot.OnStore && (e.slot < 0 || e.slot > g.slots()-n):
			return fmt.Errorf("snapshots %d to %d have place %d of %d: %w", e.from, e.to, e.slot, g.slots(), snapshot.ErrDamaged)
		}
		last = e.to
	}
	return nil
}
