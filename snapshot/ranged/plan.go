package ranged

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A plan is the store's part of one.
type plan struct {
	// slot is the new place, spare that of a copy for the snapshots behind
	// the view; -1 is none. gaps have the places of a detachment.
	slot, spare int64
	gaps        []gap
	// slots are all that were taken, growth bounds the entries to come.
	slots  []int64
	growth int64
}

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
	p := &snapshot.Plan{Request: r}
	p.N = min(p.N, at.end()-p.Chunk)
	d := &plan{slot: -1, spare: -1}
	p.Private = d
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
		st.space.release(d.slots)
		return nil, err
	}
	// A place too long for the others is cut.
	st.trim(p, d)
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
	for i := range n {
		d.slots = append(d.slots, first+i)
	}
	p.N = n
	return first, nil
}

// trim gives back what was taken for chunks that are not in the plan any more.
func (st *store) trim(p *snapshot.Plan, d *plan) {
	var firsts []int64
	if d.slot >= 0 {
		firsts = append(firsts, d.slot)
	}
	if d.spare >= 0 {
		firsts = append(firsts, d.spare)
	}
	for _, g := range d.gaps {
		firsts = append(firsts, g.slot)
	}
	var kept, gone []int64
	for _, s := range d.slots {
		if slices.ContainsFunc(firsts, func(f int64) bool { return s >= f && s < f+p.N }) {
			kept = append(kept, s)
		} else {
			gone = append(gone, s)
		}
	}
	st.space.release(gone)
	d.slots = kept
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
	c := snapshot.Copy{From: snapshot.Place{Where: snapshot.OnOrigin}}
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
	p.Copies = []snapshot.Copy{c}
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
		p.Copies = []snapshot.Copy{{From: p.Old, To: []int64{st.geo.off(first)}}}
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
	sums := map[int64]uint32{}
	note := func(slot int64, all []uint32) bool {
		for i, s := range all {
			sums[slot+int64(i)] = s
		}
		return int64(len(all)) == p.N
	}
	good := true
	for i, c := range p.Copies {
		for j := range c.To {
			slot := d.spare
			if p.Op == snapshot.Detach {
				slot = d.gaps[j].slot
			}
			good = note(slot, p.Copies[i].Sums) && good
		}
	}
	if p.Op == snapshot.Write {
		good = note(d.slot, p.Sums) && good
	}
	if !good {
		return fmt.Errorf("a plan of %d chunks has other numbers of checksums: %w", p.N, block.ErrInvalid)
	}
	return st.with(ctx, p.Chunk, p.N, maxRun, func(at *reading) error {
		c := st.change(at, sums)
		for i := range p.N {
			c.add(p.Chunk+i, st.applied(p, d, at.at(p.Chunk+i), i))
		}
		if err := c.stage(); err != nil {
			return err
		}
		st.planned -= d.growth
		st.data = st.data || len(sums) > 0
		// A copy that turned out not to be needed.
		st.space.release(slices.DeleteFunc(d.slots, func(s int64) bool { return c.used[s] }))
		return nil
	})
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
	st.space.release(d.slots)
}
