package transient

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A gap is a range of snapshots on the origin device.
type gap struct{ from, to snapshot.ID }

// private is the store's part of a plan.
type private struct {
	// places are all that were allocated.
	places []int64
	gaps   []gap
}

func (st *store) Plan(_ context.Context, r snapshot.Request) (*snapshot.Plan, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(r.View); err != nil {
		return nil, err
	}
	if r.Op != snapshot.Detach && r.View == snapshot.Origin {
		return nil, fmt.Errorf("a transient store keeps no data of the origin: %w", block.ErrNotSupported)
	}
	p := &snapshot.Plan{Request: r}
	mine := &private{}
	p.Private = mine
	var err error
	if r.Op == snapshot.Detach {
		err = st.planDetach(p, mine)
	} else {
		err = st.planPrivate(p, mine)
	}
	if err != nil {
		st.space.release(mine.places)
		return nil, err
	}
	return p, nil
}

// planDetach finds the gaps between entries. Chunks with the same gaps make one
// plan.
func (st *store) planDetach(p *snapshot.Plan, mine *private) error {
	mine.gaps = st.gaps(p.Chunk)
	n := int64(1)
	for n < p.N && slices.Equal(st.gaps(p.Chunk+n), mine.gaps) {
		n++
	}
	p.N = n
	if len(mine.gaps) == 0 {
		return nil
	}
	dests := 1
	if st.exact {
		if p.More = len(mine.gaps) > snapshot.MaxDests; p.More {
			mine.gaps = mine.gaps[:snapshot.MaxDests]
		}
		dests = len(mine.gaps)
	}
	copy := snapshot.Copy{From: snapshot.Place{Where: snapshot.OnOrigin}}
	for range dests {
		off, err := st.allocRun(p, mine)
		if err != nil {
			return err
		}
		copy.To = append(copy.To, off)
	}
	p.Copies = []snapshot.Copy{copy}
	return nil
}

// allocRun allocates places for all chunks of the plan, which becomes shorter
// if there are fewer in a row.
func (st *store) allocRun(p *snapshot.Plan, mine *private) (int64, error) {
	first, n, err := st.space.alloc(p.N)
	if err != nil {
		return 0, err
	}
	for i := range n {
		mine.places = append(mine.places, first+i)
	}
	p.N = n
	return first * st.caps.Chunk, nil
}

// gaps returns the ranges of snapshots that lie on the origin device.
func (st *store) gaps(c int64) (all []gap) {
	from := snapshot.ID(1)
	add := func(to snapshot.ID) {
		if from <= to && st.users(from, to) > 0 {
			all = append(all, gap{from, to})
		}
	}
	for _, e := range st.chunks[c] {
		add(e.from - 1)
		from = e.to + 1
	}
	add(st.next - 1)
	return all
}

// planPrivate is for Write and Clear of a snapshot.
func (st *store) planPrivate(p *snapshot.Plan, mine *private) error {
	at := st.at(p.View, p.Chunk)
	p.Old = at.Place
	all := st.chunks[p.Chunk]
	i := find(all, p.View)
	p.OldShared = i < 0 || !at.Writable && at.Where == snapshot.OnStore
	if i >= 0 || p.Op == snapshot.Clear {
		p.N = 1
	}
	for n := int64(1); n < p.N; n++ {
		if find(st.chunks[p.Chunk+n], p.View) >= 0 {
			p.N = n
		}
	}
	if p.Op == snapshot.Write {
		target, err := st.allocRun(p, mine)
		if err != nil {
			return err
		}
		p.Target = target
	}
	if i >= 0 && st.splits(all[i], p.View) {
		off, err := st.allocRun(p, mine)
		if err != nil {
			return err
		}
		p.Copies = []snapshot.Copy{{From: at.Place, To: []int64{off}}}
	}
	return nil
}

// splits reports whether an entry needs a copy because both parts of it are in
// use when v has left.
func (st *store) splits(e entry, v snapshot.ID) bool {
	return st.exact && e.place.Where == snapshot.OnStore && st.users(e.from, v-1) > 0 && st.users(v+1, e.to) > 0
}

func (st *store) Apply(_ context.Context, p *snapshot.Plan) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	mine := p.Private.(*private)
	used := map[int64]bool{}
	for i := range p.N {
		use := func(off int64) snapshot.Place {
			used[st.slot(off)+i] = true
			return snapshot.Place{Where: snapshot.OnStore, Off: off + i*st.caps.Chunk}
		}
		c := p.Chunk + i
		switch p.Op {
		case snapshot.Detach:
			for j, g := range mine.gaps {
				to := p.Copies[0].To
				place := use(to[min(j, len(to)-1)])
				if j >= len(to) {
					st.space.refs[st.slot(place.Off)]++
				}
				st.insert(c, entry{g.from, g.to, place})
			}
		case snapshot.Write:
			st.replace(c, p, use(p.Target), use)
		case snapshot.Clear:
			st.replace(c, p, snapshot.Place{Where: snapshot.Hole}, use)
		}
	}
	for _, i := range mine.places {
		if !used[i] {
			st.space.release([]int64{i})
		}
	}
	return nil
}

func (st *store) insert(c int64, e entry) {
	all := st.chunks[c]
	i, _ := slices.BinarySearchFunc(all, e.from, func(e entry, v snapshot.ID) int { return int(min(max(int64(e.from)-int64(v), -1), 1)) })
	st.chunks[c] = slices.Insert(all, i, e)
}

// replace gives the snapshot of a plan another place, and the entry that it was
// in two parts.
func (st *store) replace(c int64, p *snapshot.Plan, place snapshot.Place, use func(int64) snapshot.Place) {
	v := p.View
	all := st.chunks[c]
	if i := find(all, v); i >= 0 {
		e := all[i]
		st.chunks[c] = slices.Delete(all, i, i+1)
		left, right := st.users(e.from, v-1) > 0, st.users(v+1, e.to) > 0
		if left {
			st.insert(c, entry{e.from, v - 1, e.place})
		}
		switch {
		case right && len(p.Copies) > 0 && left:
			st.insert(c, entry{v + 1, e.to, use(p.Copies[0].To[0])})
		case right:
			st.insert(c, entry{v + 1, e.to, e.place})
		}
		switch {
		case left && right && len(p.Copies) == 0 && e.place.Where == snapshot.OnStore:
			st.space.refs[st.slot(e.place.Off)]++
		case !left && !right:
			st.drop(e.place)
		}
	}
	st.insert(c, entry{v, v, place})
}

func (st *store) Abandon(p *snapshot.Plan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.space.release(p.Private.(*private).places)
}

func (st *store) Home(_ context.Context, v snapshot.ID, c, n int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for ; n > 0; c, n = c+1, n-1 {
		all := st.chunks[c]
		i := find(all, v)
		if i < 0 {
			continue
		}
		place := all[i].place
		kept := make([]entry, 0, len(all))
		for _, e := range all {
			if e.place != place {
				kept = append(kept, e)
			} else {
				st.drop(place)
			}
		}
		st.keep(c, kept)
	}
	return nil
}
