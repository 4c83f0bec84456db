package replica

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// A census says which objects there are of a family, from one index up to another one,
// which is not included. In any other object no version has anything. It is taken of the
// lists of all groups, so that a map of a large volume that is nearly empty need not ask
// about each object that might be there.
type census struct {
	first, end uint64
	there      []uint64 // in order
}

const (
	// maxCensus bounds how many objects one census has.
	maxCensus = 1 << 20
	// worthwhile is how many objects of a group are left to ask about, on average, when a
	// census is taken.
	worthwhile = 16
	// pageWorth is how many objects could be asked about in the time that a page of the
	// list of a group takes. Where others than this family have so many objects that it
	// would take longer than that, the census is given up.
	pageWorth = 64
)

// errTooMany: a census would take too long.
var errTooMany = errors.New("too many objects are in the groups of the volume")

// covers reports whether the census is about an object.
func (c *census) covers(index uint64) bool { return index >= c.first && index < c.end }

// lacks reports whether it is known that there is nothing in an object.
func (c *census) lacks(index uint64) bool {
	_, found := slices.BinarySearch(c.there, index)
	return c.covers(index) && !found
}

// next is the first object from that index on in which there may be something.
func (c *census) next(index uint64) uint64 {
	if !c.covers(index) {
		return index
	}
	if i, _ := slices.BinarySearch(c.there, index); i < len(c.there) {
		return c.there[i]
	}
	return c.end
}

// A pager returns some of the objects of the group that an object belongs to, see
// Peer.List.
type pager func(index, from uint64) (list []disk.Summary, more bool, err error)

// taking is a census that is being taken.
type taking struct {
	family uint64
	pages  atomic.Int64 // that may still be asked for
	mu     sync.Mutex
	c      census
}

// take takes a census of the objects from first up to end, or of the first ones of them.
func (v *Volume) take(first, end uint64, page pager) (census, error) {
	t := taking{family: v.c.Head.Family, c: census{first: first, end: end}}
	some := v.oneOfEach(first, end)
	t.pages.Store(int64(len(some)) + int64((end-first)/pageWorth))
	if err := each(len(some), maxSpread, func(i int) error { return t.group(some[i], page) }); err != nil {
		return census{}, err
	}
	t.tidy()
	return t.c, nil
}

// oneOfEach returns an object of each group that has any of those from first up to end.
func (v *Volume) oneOfEach(first, end uint64) (list []uint64) {
	seen := map[int]bool{}
	for i := first; i < end && len(seen) < v.c.Count; i++ {
		if g := v.groupOf(i); !seen[g] {
			seen[g] = true
			list = append(list, i)
		}
	}
	return list
}

// group counts the objects of one group.
func (t *taking) group(index uint64, page pager) error {
	for from, more := uint64(0), true; more; {
		if t.pages.Add(-1) < 0 {
			return errTooMany
		}
		list, left, err := page(index, from)
		if err != nil {
			return err
		}
		t.mu.Lock()
		for _, s := range list {
			if s.Family == t.family && t.c.covers(s.Index) {
				t.c.there = append(t.c.there, s.Index)
			}
		}
		if len(t.c.there) >= 2*maxCensus {
			t.tidy()
		}
		t.mu.Unlock()
		if more = left && len(list) > 0; more {
			from = list[len(list)-1].Hash() + 1
			more = from != 0
		}
	}
	return nil
}

// tidy puts what there is in order, and leaves the end to another census if it is too much.
func (t *taking) tidy() {
	slices.Sort(t.c.there)
	t.c.there = slices.Compact(t.c.there)
	if len(t.c.there) > maxCensus {
		t.c.end = t.c.there[maxCensus]
		t.c.there = t.c.there[:maxCensus]
	}
}

// A survey asks about a range, part by part.
type survey struct {
	v    *Volume
	ask  func(off, n int64, known *census) ([]block.Extent, error)
	page pager
	// objects is about how many the next question is, up to most.
	objects, most int64
	known         census
	tired         bool // no census is taken any more
}

// next returns the first extents of a range that is not empty.
func (s *survey) next(off, end int64) ([]block.Extent, error) {
	size := s.v.c.ObjectSize
	first, last := uint64(off/size), uint64((end-1)/size)
	if !s.known.covers(first) && !s.tired && s.objects == s.most && last-first >= worthwhile*uint64(s.v.c.Count) {
		known, err := s.v.take(first, last+1, s.page)
		if s.tired = errors.Is(err, errTooMany); err != nil && !s.tired {
			return nil, err
		}
		s.known = known
	}
	n := min(end-off, s.objects*size-off%size)
	if next := s.known.next(first); next-first >= uint64(s.most) {
		if next <= last {
			end = int64(next) * size
		}
		return []block.Extent{{Off: off, Len: end - off, Status: noData}}, nil
	}
	s.objects = min(2*s.objects, s.most)
	return s.ask(off, n, &s.known)
}

// noData is the status of what no version has.
const noData = block.Hole | block.Zero
