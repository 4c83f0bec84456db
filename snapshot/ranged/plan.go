package ranged

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A draft is the store's part of a plan.
type draft struct {
	record
	// slots are all that were taken, growth bounds the entries to come.
	slots  []int64
	growth int64
}

func (st *store) Plan(_ context.Context, r snapshot.Request) (*snapshot.Plan, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(r.View); err != nil {
		return nil, err
	}
	p := &snapshot.Plan{Request: r}
	d := &draft{record: record{view: r.View, chunk: r.Chunk, slot: -1, spare: -1}}
	p.Private = d
	var err error
	if r.Op == snapshot.Detach {
		err = st.planDetach(p, d)
	} else {
		err = st.planOwn(p, d)
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
	d.n = p.N
	if len(p.Copies) > 0 || r.Op != snapshot.Detach {
		st.planned += d.growth
	}
	return p, nil
}

// take allocates places for all chunks of the plan, which becomes shorter if
// there are fewer in a row.
func (st *store) take(p *snapshot.Plan, d *draft) (int64, error) {
	first, n, err := st.space.alloc(p.N, st.reserve(d.growth))
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
func (st *store) trim(p *snapshot.Plan, d *draft) {
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
func (st *store) planDetach(p *snapshot.Plan, d *draft) error {
	d.op, d.gaps = opDetach, st.gaps(p.Chunk)
	n := int64(1)
	for n < p.N && slices.Equal(st.gaps(p.Chunk+n), d.gaps) {
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
func (st *store) planOwn(p *snapshot.Plan, d *draft) error {
	d.op, d.where = opSet, snapshot.Hole
	v := internal(p.View)
	at := st.at(p.View, p.Chunk)
	p.Old, p.OldShared = at.Place, st.shared(v, p.Chunk)
	split := st.copies(v, p.Chunk)
	n := int64(1)
	for want := at.Place; n < p.N && !split; n++ {
		if want.Where == snapshot.OnStore {
			want.Off += st.geo.chunk
		}
		c := p.Chunk + n
		if st.at(p.View, c).Place != want || st.shared(v, c) != p.OldShared || st.copies(v, c) {
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
		d.where, d.slot, p.Target = snapshot.OnStore, first, st.geo.off(first)
	}
	if split {
		first, err := st.take(p, d)
		if err != nil {
			return err
		}
		d.spare = first
		p.Copies = []snapshot.Copy{{From: at.Place, To: []int64{st.geo.off(first)}}}
	}
	return nil
}

// shared reports whether other views have the place that v has.
func (st *store) shared(v snapshot.ID, c int64) bool {
	all := st.chunks[c]
	switch i := find(all, v); {
	case i >= 0:
		return all[i].where == snapshot.OnStore && !st.alone(all[i])
	case v == head:
		return st.onOrigin(c) > 0
	}
	return true // with the origin, or another snapshot
}

// copies reports whether v leaving its place costs a copy.
func (st *store) copies(v snapshot.ID, c int64) bool {
	all := st.chunks[c]
	i := find(all, v)
	return st.exact && i >= 0 && all[i].where == snapshot.OnStore && st.splits(all[i], v)
}

func (st *store) Apply(_ context.Context, p *snapshot.Plan) error {
	d := p.Private.(*draft)
	r := d.record
	want := [2]int64{}
	switch {
	case p.Op == snapshot.Detach:
		r.sums, want[0] = p.Copies[0].Sums, p.N
	case p.Op == snapshot.Write:
		r.sums, want[0] = p.Sums, p.N
	}
	if r.spare >= 0 {
		r.spareSums, want[1] = p.Copies[0].Sums, p.N
	}
	if int64(len(r.sums)) != want[0] || int64(len(r.spareSums)) != want[1] {
		return fmt.Errorf("a plan of %d chunks has %d and %d checksums: %w", p.N, len(r.sums), len(r.spareSums), block.ErrInvalid)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.planned -= d.growth
	st.stage(&r)
	st.data = st.data || want[0]+want[1] > 0
	return nil
}

func (st *store) Abandon(p *snapshot.Plan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := p.Private.(*draft)
	st.planned -= d.growth
	st.space.release(d.slots)
}
