package ranged

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A plan is one with the store's part of it. One allocation serves a plan for a
// chunk.
type plan struct {
	snapshot.Plan
	// slot is the new place, spare that of a copy for the snapshots behind
	// the view; -1 is none. gaps have the places of a detachment.
	slot, spare int64
	gaps        []gap
	// taken are the places that were taken, each for all chunks, growth
	// bounds the entries to come.
	taken  []places
	growth int64

	// Room for what most plans have.
	takes  [1]places
	sums   [1]uint32
	copies [1]snapshot.Copy
	to     [1]int64
}

// places are adjacent.
type places struct{ first, n int64 }

func (st *store) Plan(ctx context.Context, r snapshot.Request) (p *snapshot.Plan, err error) {
	err = st.with(ctx, r.Chunk, r.N, maxPieces, func(at *reading) error {
		p, err = st.plan(r, at)
		return err
	})
	return p, err
}

func (st *store) plan(r snapshot.Request, at *reading) (*snapshot.Plan, error) {
	if err := st.exists(r.View); err != nil {
		return nil, err
	}
	d := &plan{Plan: snapshot.Plan{Request: r}, slot: -1, spare: -1}
	p := &d.Plan
	p.N = min(p.N, at.end()-p.Chunk)
	p.Private, p.Sums, d.taken = d, d.sums[:0], d.takes[:0]
	var err error
	if r.Op == snapshot.Detach {
		err = st.planDetach(p, d, at)
	} else {
		err = st.planOwn(p, d, at)
	}
	if err == nil && d.growth > 0 && st.space.count[segFree] < st.reserve(d.growth) {
		err = fmt.Errorf("the store has no room for more of its map: %w", block.ErrNoSpace)
	}
	if err != nil {
		st.release(d.taken)
		return nil, err
	}
	// A place too long for the others is cut.
	for i := range d.taken {
		x := &d.taken[i]
		st.space.release(x.first+p.N, x.n-p.N)
		x.n = p.N
	}
	if len(p.Copies) > 0 || r.Op != snapshot.Detach {
		st.planned += d.growth
	}
	return p, nil
}

// take allocates places for all chunks of the plan, which becomes shorter if
// there are fewer in a row.
func (st *store) take(p *snapshot.Plan, d *plan) (int64, error) {
	first, n, err := st.space.alloc(p.N, st.reserve(d.growth)+st.slack())
	if err != nil {
		return 0, err
	}
	d.taken = append(d.taken, places{first, n})
	p.N = n
	return first, nil
}

// release gives places back that no entry has got.
func (st *store) release(all []places) {
	for _, x := range all {
		st.space.release(x.first, x.n)
	}
}

// planDetach finds the gaps between entries. Chunks with the same gaps make one
// plan.
func (st *store) planDetach(p *snapshot.Plan, d *plan, at *reading) error {
	d.gaps = st.gaps(at.at(p.Chunk))
	n := int64(1)
	for n < p.N && slices.Equal(st.gaps(at.at(p.Chunk+n)), d.gaps) {
		n++
	}
	p.N = n
	if len(d.gaps) == 0 {
		return nil
	}
	dests := 1
	if st.exact {
		if p.More = len(d.gaps) > snapshot.MaxDests; p.More {
			d.gaps = d.gaps[:snapshot.MaxDests]
		}
		dests = len(d.gaps)
	}
	d.growth = int64(len(d.gaps)) * p.N
	c := snapshot.Copy{From: snapshot.Place{Where: snapshot.OnOrigin}, To: d.to[:0], Sums: d.sums[:0]}
	for i := range dests {
		first, err := st.take(p, d)
		if err != nil {
			d.gaps = d.gaps[:i]
			return err
		}
		c.To = append(c.To, st.geo.off(first))
		d.gaps[i].slot = first
	}
	for i := dests; i < len(d.gaps); i++ {
		d.gaps[i].slot = d.gaps[0].slot
	}
	p.Copies = append(d.copies[:0], c)
	return nil
}

// planOwn is for Write and Clear.
func (st *store) planOwn(p *snapshot.Plan, d *plan, at *reading) error {
	v := internal(p.View)
	list := at.at(p.Chunk)
	p.Old, p.OldShared = st.segment(list, p.View, 0).Place, st.shared(list, v)
	split := st.copies(list, v)
	n := int64(1)
	for want := p.Old; n < p.N && !split; n++ {
		if want.Where == snapshot.OnStore {
			want.Off += st.geo.chunk
		}
		list := at.at(p.Chunk + n)
		if st.segment(list, p.View, 0).Place != want || st.shared(list, v) != p.OldShared || st.copies(list, v) {
			break
		}
	}
	p.N = n
	d.growth = 2 * n
	if p.Op == snapshot.Write {
		first, err := st.take(p, d)
		if err != nil {
			return err
		}
		d.slot, p.Target = first, st.geo.off(first)
	}
	if split {
		first, err := st.take(p, d)
		if err != nil {
			return err
		}
		d.spare = first
		p.Copies = append(d.copies[:0], snapshot.Copy{From: p.Old, To: append(d.to[:0], st.geo.off(first))})
	}
	return nil
}

// shared reports whether other views have the place that v has.
func (st *store) shared(all []entry, v snapshot.ID) bool {
	switch i := find(all, v); {
	case i >= 0:
		return all[i].where == snapshot.OnStore && !st.alone(all, i)
	case v == head:
		return st.onOrigin(all) > 0
	}
	return true // with the origin, or another snapshot
}

// copies reports whether v leaving its place costs a copy.
func (st *store) copies(all []entry, v snapshot.ID) bool {
	i := find(all, v)
	return st.exact && i >= 0 && all[i].where == snapshot.OnStore && st.splits(&all[i], v)
}

func (st *store) Apply(ctx context.Context, p *snapshot.Plan) error {
	d := p.Private.(*plan)
	return st.with(ctx, p.Chunk, p.N, maxRun, func(at *reading) error {
		all, good := d.checksums(at.sums[:0])
		if !good {
			return fmt.Errorf("a plan of %d chunks has other numbers of checksums: %w", p.N, block.ErrInvalid)
		}
		c := change{st: st, at: at, sums: all, records: at.records[:0]}
		for i := range p.N {
			c.add(p.Chunk+i, st.applied(p, d, at.at(p.Chunk+i), i))
		}
		if err := c.stage(); err != nil {
			return err
		}
		st.planned -= d.growth
		st.data = st.data || len(all) > 0
		// A copy that turned out not to be needed: what entries have got
		// is not busy any more.
		st.release(d.taken)
		return nil
	})
}

// checksums appends those of all places to buf, and reports whether there are as
// many as there must be.
func (d *plan) checksums(buf []sums) (all []sums, good bool) {
	all, good = buf, true
	note := func(slot int64, list []uint32) {
		all = append(all, sums{slot, list})
		good = good && int64(len(list)) == d.N
	}
	for _, c := range d.Copies {
		for j := range c.To {
			slot := d.spare
			if d.Op == snapshot.Detach {
				slot = d.gaps[j].slot
			}
			note(slot, c.Sums)
		}
	}
	if d.Op == snapshot.Write {
		note(d.slot, d.Sums)
	}
	return all, good
}

// applied returns the entries of the i-th chunk after a plan.
func (st *store) applied(p *snapshot.Plan, d *plan, old []entry, i int64) []entry {
	if p.Op == snapshot.Detach {
		return st.detached(old, d.gaps, i, fresh)
	}
	e, spare := entry{where: snapshot.Hole, born: fresh}, int64(-1)
	if d.slot >= 0 {
		e.where, e.slot = snapshot.OnStore, d.slot+i
	}
	if d.spare >= 0 {
		spare = d.spare + i
	}
	return st.replaced(old, internal(p.View), e, spare)
}

func (st *store) Abandon(p *snapshot.Plan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := p.Private.(*plan)
	st.planned -= d.growth
	st.release(d.taken)
}
