package ranged

import (
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// image encodes the state for a checkpoint: entries in the order of chunks,
// adjacent ones as runs.
func (s *state) image() []byte {
	w := &writer{}
	w.num(uint64(s.next), uint64(s.cursor))
	w.flag(s.dead)
	w.num(uint64(len(s.live)))
	last := snapshot.ID(0)
	for _, id := range s.live {
		w.num(uint64(id - last))
		last = id
	}
	w.num(uint64(len(s.values)))
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		w.bytes([]byte(key))
		w.bytes(s.values[key])
	}
	runs := s.runs()
	w.num(uint64(len(runs)))
	at := int64(0)
	for _, r := range runs {
		to := uint64(0)
		if r.to != head {
			to = uint64(r.to-r.from) + 1
		}
		w.num(uint64(r.chunk-at), uint64(r.n), uint64(r.from), to, uint64(r.where), uint64(r.slot))
		at = r.chunk
	}
	return w.b
}

// A run is an entry of n chunks with adjacent places.
type run struct {
	entry
	chunk, n int64
}

// runs returns the entries in the order of chunks, joined.
func (s *state) runs() (all []run) {
	type key struct{ from, to snapshot.ID }
	open := map[key]int{} // the last run of each range of snapshots
	for _, c := range slices.Sorted(maps.Keys(s.chunks)) {
		for _, e := range s.chunks[c] {
			i, ok := open[key{e.from, e.to}]
			if ok {
				r := &all[i]
				step := r.n
				if e.where != snapshot.OnStore {
					step = 0
				}
				if r.chunk+r.n == c && r.where == e.where && r.slot+step == e.slot {
					r.n++
					continue
				}
			}
			open[key{e.from, e.to}] = len(all)
			all = append(all, run{e, c, 1})
		}
	}
	return all
}

// parseImage is the opposite of image.
func parseImage(g *geometry, b []byte) (*state, error) {
	s := newState(g)
	r := &reader{b: b}
	s.next = snapshot.ID(r.num())
	s.cursor = r.upTo(g.chunks(), "a cursor")
	s.dead = r.upTo(1, "a flag") == 1
	last := snapshot.ID(0)
	for range r.upTo(int64(len(r.b)), "a number of snapshots") {
		d := snapshot.ID(r.num())
		if d == 0 || d >= s.next-last {
			r.fail("snapshot %d+%d is out of order, the next one is %d", last, d, s.next)
			break
		}
		last += d
		s.live = append(s.live, last)
	}
	if s.next == 0 || s.next >= head-1 {
		r.fail("the next snapshot is %d", s.next)
	}
	for range r.upTo(int64(len(r.b)), "a number of values") {
		key := string(r.bytes(64, "the length of a key"))
		s.put(key, append([]byte{}, r.bytes(snapshot.MaxValue, "the length of a value")...))
	}
	at := int64(0)
	for range r.upTo(int64(len(r.b)), "a number of runs") {
		at = s.parseRun(r, at)
		if r.bad != nil {
			break
		}
	}
	if r.bad == nil && len(r.b) > 0 {
		r.fail("%d bytes are left over", len(r.b))
	}
	if r.bad != nil {
		return nil, fmt.Errorf("the checkpoint: %w", r.bad)
	}
	return s, nil
}

// parseRun reads a run and returns its chunk.
func (s *state) parseRun(r *reader, at int64) int64 {
	g := s.geo
	c := at + r.upTo(g.chunks()-1-at, "a chunk")
	n := r.upTo(g.chunks()-c, "a number of chunks")
	e := entry{from: snapshot.ID(r.num())}
	switch to := snapshot.ID(r.num()); {
	case to == 0:
		e.to = head
	case e.from >= s.next || to > s.next-e.from:
		r.fail("%d snapshots from %d, the next one is %d", to, e.from, s.next)
	default:
		e.to = e.from + to - 1
	}
	e.where = snapshot.Where(r.upTo(2, "a kind of place"))
	e.slot = r.upTo(g.slots(), "a place")
	if r.bad == nil && (e.from == 0 || e.from > s.next || e.where == snapshot.OnOrigin || e.where == snapshot.OnStore && n > g.slots()-e.slot) {
		r.fail("chunk %d: snapshots from %d have %d places of kind %d at %d", c, e.from, n, e.where, e.slot)
	}
	for i := int64(0); i < n && r.bad == nil; i++ {
		all := s.chunks[c+i]
		if len(all) > 0 && s.overlap(all, gap{from: e.from, to: e.to}) {
			r.fail("chunk %d has two entries for snapshots %d to %d", c+i, e.from, e.to)
			break
		}
		s.keep(c+i, insert(slices.Clip(all), e))
		if e.where != snapshot.OnStore {
			continue
		}
		if s.space.has(e.slot) {
			s.space.more[e.slot]++
		} else if err := s.space.claim(e.slot, 1); err != nil {
			r.fail("chunk %d: %v", c+i, err)
		}
		e.slot++
	}
	return c
}
