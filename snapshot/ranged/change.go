package ranged

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// A change collects what becomes of chunks as records, one for as many chunks
// in a row as possible. The caller has mu.
type change struct {
	st      *store
	at      *reading
	sums    []sums
	records []record
}

// sums are the checksums of adjacent places.
type sums struct {
	first int64
	list  []uint32
}

func (st *store) change(at *reading) *change { return &change{st: st, at: at} }

// sum returns the checksum of a fresh place.
func (c *change) sum(slot int64) uint32 {
	for i := range c.sums {
		if x := &c.sums[i]; slot >= x.first && slot < x.first+int64(len(x.list)) {
			return x.list[slot-x.first]
		}
	}
	return 0
}

// add notes the new entries of a chunk, those with fresh places marked. The
// list becomes that of the memtable.
func (c *change) add(chunk int64, list []entry) {
	var room [3][4]int64
	var freed []int64
	left := slotsOf(room[0][:0], list)
	for _, slot := range slotsOf(room[1][:0], c.at.at(chunk)) {
		if !slices.Contains(left, slot) {
			freed = append(freed, slot)
		}
	}
	slots := newSlots(room[2][:0], list)
	if n := len(c.records); n > 0 {
		r := &c.records[n-1]
		var old [4]int64
		if r.n < maxRun && r.chunk+r.n == chunk && continues(r.list, list, r.n) && follows(r.freed, freed, r.n) && follows(newSlots(old[:0], r.list), slots, r.n) {
			r.n++
			for _, slot := range slots {
				r.sums = append(r.sums, c.sum(slot))
			}
			return
		}
	}
	c.records = append(c.records, record{op: opMap, group: group{chunk, 1, list}, freed: freed})
	r := &c.records[len(c.records)-1]
	if len(c.records) == 1 {
		r.sums = c.at.sum[:0]
	}
	for _, slot := range slots {
		r.sums = append(r.sums, c.sum(slot))
	}
}

// follows reports whether b are the places i chunks behind a.
func follows(a, b []int64, i int64) bool {
	return slices.EqualFunc(a, b, func(x, y int64) bool { return x+i == y })
}

// stage stages the records, all or none.
func (c *change) stage() error {
	for i := range c.records {
		if err := c.st.cold(&c.records[i]); err != nil {
			return err
		}
	}
	for i := range c.records {
		if err := c.st.stage(&c.records[i]); err != nil {
			return err
		}
	}
	return nil
}

// home is for long ranges: all is read before anything is changed.
func (st *store) Home(ctx context.Context, v snapshot.ID, c, n int64) error {
	for {
		var all []*reading
		for at := c; at < c+n; at = all[len(all)-1].end() {
			r, err := st.read(ctx, at, c+n-at, maxRun)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		again, err := st.heat(ctx, st.homeAll(v, all, c+n))
		if err == nil && !again || err != nil && err != errMore {
			return err
		}
	}
}

// errMore says that the trees have changed since they were read.
var errMore = fmt.Errorf("the map has changed")

func (st *store) homeAll(v snapshot.ID, all []*reading, end int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(v); err != nil {
		return err
	}
	var changes []*change
	for _, r := range all {
		if r.t != st.state.trees {
			return errMore
		}
		x := st.change(r)
		for c := r.chunk; c < r.end(); c++ {
			old := r.at(c)
			if list := st.homed(old, internal(v)); len(list) != len(old) || !continues(old, list, 0) {
				x.add(c, list)
			}
		}
		for i := range x.records {
			if err := st.cold(&x.records[i]); err != nil {
				return err
			}
		}
		changes = append(changes, x)
	}
	for _, x := range changes {
		if err := x.stage(); err != nil {
			return err
		}
	}
	return nil
}
