package ranged

import (
	"context"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// Map joins up to maxPieces groups of entries, and looks at up to maxLook
// chunks that are not in the trees alone.
const (
	maxPieces = 256
	maxLook   = 64 << 10
)

func (st *store) Map(ctx context.Context, v snapshot.ID, c, n int64, flags block.Flags) (seg snapshot.Segment, err error) {
	var buf [8]entry
	for piece := range maxPieces {
		next, err := st.piece(ctx, v, c+seg.N, n-seg.N, buf[:0], flags)
		switch {
		case err != nil && piece == 0:
			return seg, err
		case err != nil:
			return seg, nil // what was found is something
		case piece == 0:
			seg = next
		default:
			want := seg
			if want.Where == snapshot.OnStore {
				want.Off += seg.N * st.geo.chunk
			}
			if next.Place != want.Place || next.Writable != want.Writable {
				return seg, nil
			}
			seg.N += next.N
		}
		if seg.N >= n {
			return seg, nil
		}
	}
	return seg, nil
}

// piece is Map for the chunks of a group, at most n.
func (st *store) piece(ctx context.Context, v snapshot.ID, c, n int64, buf []entry, flags block.Flags) (snapshot.Segment, error) {
	for {
		st.mu.RLock()
		if err := st.exists(v); err != nil {
			st.mu.RUnlock()
			return snapshot.Segment{}, err
		}
		recent, ok := st.recent(c, buf)
		switch {
		case ok && !partial(recent):
			seg := st.segment(recent, v, st.mark)
			st.mu.RUnlock()
			return seg, nil
		case ok:
			n = 1
		case n > 1:
			n = st.frozen.clear(c, st.mem.clear(c, min(n, maxLook)))
		}
		t, roll, mark := st.state.trees, st.roll, st.mark
		st.mu.RUnlock()
		g, err := t.chunks.find(ctx, c, recent[len(recent):], flags)
		if err != nil {
			if st.outdated(t, err) {
				continue
			}
			return snapshot.Segment{}, err
		}
		if ok {
			g.list, _ = settled(recent, g.list)
		}
		seg := roll.segmentOf(&st.geo, g.list, v, mark)
		seg.N = min(g.n, n)
		return seg, nil
	}
}

func (st *store) segment(list []entry, v snapshot.ID, mark uint64) snapshot.Segment {
	return st.segmentOf(&st.geo, list, v, mark)
}

// segmentOf returns where a view has a chunk with some entries. The log that
// may be replayed has the checksum of what was born after the mark, so that
// may not be written in place.
func (s *roll) segmentOf(g *geometry, list []entry, v snapshot.ID, mark uint64) snapshot.Segment {
	seg := snapshot.Segment{N: 1}
	i := find(list, internal(v))
	if i < 0 {
		seg.Writable = v == snapshot.Origin && s.onOrigin(list) == 0
		return seg
	}
	e := &list[i]
	if seg.Where = e.where; e.where == snapshot.OnStore {
		seg.Off = g.off(e.slot)
		seg.Writable = e.born <= mark && s.alone(list, i)
	}
	return seg
}

// A reading has the entries of some chunks as the trees have them.
type reading struct {
	st     *store
	t      *trees
	chunk  int64
	groups []group
	next   int

	// Room for a chunk with few entries.
	one  [1]group
	list [4]entry

	// Room for the change that becomes of it.
	records [1]record
	sums    [1]sums
	sum     [1]uint32
}

// readings are for with: what it reads it needs only so long.
var readings = sync.Pool{New: func() any { return new(reading) }}

// read reads n chunks, or less if they are in more than most groups.
func (st *store) read(ctx context.Context, c, n int64, most int) (*reading, error) {
	r := new(reading)
	return r, r.read(ctx, st, c, n, most)
}

func (r *reading) read(ctx context.Context, st *store, c, n int64, most int) error {
	for {
		st.mu.RLock()
		r.st, r.t, r.chunk, r.next = st, st.state.trees, c, 0
		st.mu.RUnlock()
		r.groups = r.one[:0]
		var err error
		for at := c; at < c+n && err == nil && len(r.groups) < most; {
			buf := r.list[:0]
			if at > c {
				buf = nil
			}
			var g group
			g, err = r.t.chunks.find(ctx, at, buf, 0)
			g.n = min(g.n, c+n-at)
			r.groups = append(r.groups, g)
			at += g.n
		}
		if err == nil || !st.outdated(r.t, err) {
			return err
		}
	}
}

// end returns the first chunk that was not read.
func (r *reading) end() int64 {
	g := &r.groups[len(r.groups)-1]
	return g.chunk + g.n
}

// at returns the entries of a chunk as they are now. The caller has mu and goes
// forward.
func (r *reading) at(c int64) []entry {
	recent, ok := r.st.recent(c, nil)
	if ok && !partial(recent) {
		return recent
	}
	if r.next > 0 && c < r.groups[r.next].chunk {
		r.next = 0
	}
	for c >= r.groups[r.next].chunk+r.groups[r.next].n {
		r.next++
	}
	g := &r.groups[r.next]
	if ok {
		list, _ := settled(recent, moved(nil, g.list, c-g.chunk))
		return list
	}
	if len(g.list) == 0 || c == g.chunk {
		return g.list
	}
	return moved(make([]entry, 0, len(g.list)), g.list, c-g.chunk)
}

// with reads n chunks, or less if they are in more than most groups, and calls f
// with them, under mu. f must change nothing when it returns that bits of a
// segment are cold: it is called again then.
func (st *store) with(ctx context.Context, c, n int64, most int, f func(r *reading) error) error {
	r := readings.Get().(*reading)
	defer func() {
		*r = reading{}
		readings.Put(r)
	}()
	for {
		err := r.read(ctx, st, c, n, most)
		if err != nil {
			return err
		}
		st.mu.Lock()
		current := st.state.trees == r.t
		if current {
			err = f(r)
		}
		st.mu.Unlock()
		if !current {
			continue
		}
		if again, err := st.heat(ctx, err); !again {
			return err
		}
	}
}
