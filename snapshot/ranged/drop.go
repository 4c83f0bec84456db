package ranged

import (
	"fmt"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// Who deletes a snapshot takes one entry away from each of many chunks. To write
// all the others of each again would cost more the more snapshots there are, so
// a memtable can also say of a chunk which entries it has not any more: it is
// partial then, and the rest of it is below, in the tree.

// dropped is the kind of place of what a partial list has for each entry that
// is to be left out, which is known by the snapshot that it ends at.
const dropped snapshot.Where = 3

func drop(to snapshot.ID) entry { return entry{to: to, where: dropped} }

// partial reports whether a list says what is left out of the one below it. All
// of it does then.
func partial(list []entry) bool { return len(list) > 0 && list[0].where == dropped }

// settled returns what a partial list leaves of the one below it, which it
// changes. found: that one had all that is left out.
func settled(part, below []entry) (list []entry, found bool) {
	list = below[:0]
	for _, e := range below {
		if !slices.Contains(part, drop(e.to)) {
			list = append(list, e)
		}
	}
	return list, len(list)+len(part) == len(below)
}

// drop leaves the entry that ends at a snapshot out of those of a chunk. It
// reports whether that can be so: what is below the memtable it does not know.
func (m *memtable) drop(c int64, to snapshot.ID) bool {
	var buf [16]packed
	all := buf[:0]
	if !m.empty() {
		if p, i, ok := m.find(c); ok {
			all = append(all, m.pages[p].at(i)...)
			if len(all) == 0 {
				return false
			}
		}
	}
	at := slices.IndexFunc(all, func(x packed) bool { return m.spans[x.views].to == to })
	switch part := len(all) == 0 || all[0].dropped(); {
	case part == (at >= 0):
		return false
	case part:
		all = append(all, packed{place: uint64(dropped), views: m.number(views{0, to}), born: unborn})
	default:
		all = slices.Delete(all, at, at+1)
	}
	m.put(c, all)
	return true
}

func (x packed) dropped() bool { return snapshot.Where(x.place&3) == dropped }

// A fall is what a deletion finds: entries of chunks in a row that end at a
// snapshot, and nobody uses. Their places, from slot on, are free then, unless
// it is -1 as they have none, or others have the same.
type fall struct {
	chunk, n int64
	to       snapshot.ID
	slot     int64
}

// fallen adds a fall to others, to the last one if it continues it.
func fallen(all []fall, f fall) []fall {
	if k := len(all) - 1; k >= 0 {
		x := &all[k]
		if x.to == f.to && x.chunk+x.n == f.chunk && x.n+f.n <= maxRun && (x.slot < 0 && f.slot < 0 || x.slot >= 0 && x.slot+x.n == f.slot) {
			x.n += f.n
			return all
		}
	}
	return append(all, f)
}

// doDrop carries out what a deletion has found.
func (s *state) doDrop(f *fall) error {
	for i := range f.n {
		if !s.drop(f.chunk+i, f.to) {
			return fmt.Errorf("chunk %d has no entry for snapshots up to %d", f.chunk+i, f.to)
		}
		if f.slot < 0 {
			continue
		}
		if err := s.space.leave(f.slot + i); err != nil {
			return err
		}
	}
	return nil
}

// drop leaves an entry out of those of a chunk.
func (s *state) drop(c int64, to snapshot.ID) bool {
	if s.frozen != nil {
		if _, ok := s.mem.get(c, nil); !ok {
			// The new memtable needs all of a list that is in memory, lest
			// there are partial ones over others than the tree's.
			if list, ok := s.frozen.get(c, nil); ok && !partial(list) {
				s.mem.set(c, list)
			} else if slices.Contains(list, drop(to)) {
				return false
			}
		}
	}
	return s.mem.drop(c, to)
}
