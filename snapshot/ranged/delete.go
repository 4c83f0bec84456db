package ranged

import (
	"cmp"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// A span is a part of the eras that must be looked at because snapshots were
// deleted: from a key on, up to the end of an era.
type span struct {
	from key
	to   snapshot.ID
}

// without returns the snapshots of a list but some, which are in order.
func without(live, ids []snapshot.ID) []snapshot.ID {
	left := make([]snapshot.ID, 0, len(live))
	for _, id := range ids {
		i, ok := slices.BinarySearch(live, id)
		left = append(left, live[:i]...)
		if live = live[i:]; ok {
			live = live[1:]
		}
	}
	return append(left, live...)
}

// delete removes snapshots. The era of one is that of the entries of which it
// was the newest user: those up to it, or to a snapshot behind it that is gone.
func (s *state) delete(ids []snapshot.ID) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	ids = slices.DeleteFunc(ids, func(id snapshot.ID) bool { return s.exists(id) != nil })
	s.live = without(s.live, ids)
	more := make([]span, 0, len(ids))
	left := s.live
	for _, id := range ids {
		i, _ := slices.BinarySearch(left, id)
		to := s.next - 1
		if left = left[i:]; len(left) > 0 {
			to = left[0] - 1
		}
		more = append(more, span{key{uint64(id), 0}, to})
	}
	s.doomed = union(s.doomed, more)
}

// union joins two lists of spans that are in order. Those without anything
// between them become one.
func union(a, b []span) []span {
	all := make([]span, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		next := &b
		if len(b) == 0 || len(a) > 0 && !b[0].from.less(a[0].from) {
			next = &a
		}
		x := (*next)[0]
		*next = (*next)[1:]
		last := len(all) - 1
		if last >= 0 && !(key{uint64(all[last].to) + 1, 0}).less(x.from) {
			all[last].to = max(all[last].to, x.to)
		} else {
			all = append(all, x)
		}
	}
	return all
}

// advance notes that all before a key was looked at.
func (s *state) advance(k key) {
	i, _ := slices.BinarySearchFunc(s.doomed, k.a, func(x span, a uint64) int { return cmp.Compare(uint64(x.to), a) })
	s.doomed = slices.Clone(s.doomed[i:])
	if len(s.doomed) > 0 && s.doomed[0].from.less(k) {
		s.doomed[0].from = k
	}
}
