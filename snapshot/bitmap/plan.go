package bitmap

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// private is the store's part of a plan.
type private struct {
	// places are all that were allocated, one for each chunk of the plan, but
	// none for Clear.
	places []int64
	// leaf is a block for the leaf that the bucket may need.
	leaf int64
}

// maxScatter bounds the pages of the bitmap that a plan may change by what it
// frees.
const maxScatter = 8

func (st *store) Plan(_ context.Context, r snapshot.Request) (*snapshot.Plan, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.Op != snapshot.Detach && r.View == snapshot.Origin {
		return nil, fmt.Errorf("a bitmap store keeps no data of the origin: %w", block.ErrNotSupported)
	}
	// A plan lies in one bucket.
	r.N = min(r.N, bucketChunks-r.Chunk%bucketChunks)
	p := &snapshot.Plan{Request: r}
	if r.Op == snapshot.Detach {
		if !st.planDetach(p) {
			return p, nil
		}
	} else if err := st.planPrivate(p); err != nil {
		return nil, err
	}
	mine := &private{}
	p.Private = mine
	if r.Op != snapshot.Clear {
		first, n, err := st.space.alloc(p.N)
		if err != nil {
			return nil, err
		}
		p.N = n
		for i := range n {
			mine.places = append(mine.places, first+i)
		}
		if off := st.place(first).Off; r.Op == snapshot.Write {
			p.Target = off
		} else {
			p.Copies = []snapshot.Copy{{From: snapshot.Place{Where: snapshot.OnOrigin}, To: []int64{off}}}
		}
	}
	leaf, err := st.nodes.take()
	if err != nil {
		st.space.release(mine.places)
		return nil, err
	}
	mine.leaf = leaf
	return p, nil
}

// planDetach finds out how many chunks snapshots share with the origin, and
// reports whether they do so.
func (st *store) planDetach(p *snapshot.Plan) bool {
	b := st.buckets[p.Chunk/bucketChunks]
	shared := func(c int64) bool {
		i, j := b.find(c)
		return st.shared(b, i, j) != 0
	}
	is, n := shared(p.Chunk), int64(1)
	for n < p.N && shared(p.Chunk+n) == is {
		n++
	}
	p.N = n
	return is
}

// planPrivate is for Write and Clear of a snapshot.
func (st *store) planPrivate(p *snapshot.Plan) error {
	bit, err := st.bit(p.View)
	if err != nil {
		return err
	}
	at := st.at(bit, p.Chunk)
	p.Old, p.OldShared = at.Place, !st.alone(bit, p.Chunk)
	scatter := map[int64]bool{}
	want := at
	for n := int64(0); n < p.N; n++ {
		if n > 0 {
			if want.Where == snapshot.OnStore {
				want.Off += st.l.chunk
			}
			if at = st.at(bit, p.Chunk+n); at != want {
				p.N = n
				break
			}
		}
		if at.Where == snapshot.OnStore {
			scatter[(at.Off-st.l.data)/st.l.chunk/bitsPerPage] = true
		}
		if len(scatter) > maxScatter {
			p.N = n
		}
	}
	return nil
}

// alone reports whether a snapshot is the only view with its place.
func (st *store) alone(bit uint64, c int64) bool {
	b := st.buckets[c/bucketChunks]
	i, j := b.find(c)
	for ; i < j; i++ {
		if b.recs[i].mask&bit != 0 {
			return b.recs[i].mask&st.alive == bit
		}
	}
	return false
}

// Apply trusts nothing but the places of the plan.
func (st *store) Apply(ctx context.Context, p *snapshot.Plan) error {
	if err := st.lockWithRoom(ctx); err != nil {
		return err
	}
	defer st.mu.Unlock()
	bit := uint64(0)
	if p.Op != snapshot.Detach {
		var err error
		if bit, err = st.bit(p.View); err != nil {
			return err
		}
	}
	mine := p.Private.(*private)
	n := p.Chunk / bucketChunks
	b := st.buckets[n]
	if b == nil {
		b = &bucket{}
		st.buckets[n] = b
	}
	for k := range p.N {
		c := p.Chunk + k
		place := hole
		if p.Op != snapshot.Clear {
			place = mine.places[k]
		}
		i, j := b.find(c)
		mask := bit
		if p.Op == snapshot.Detach {
			mask = st.shared(b, i, j)
		} else {
			st.leave(b, c, bit)
		}
		if !st.insert(b, rec{c, place, mask}) && place != hole {
			st.space.release(mine.places[k : k+1])
		}
	}
	st.written = st.written || p.Op != snapshot.Clear
	st.resize(n, b, mine.leaf)
	return nil
}

// insert adds an exception, unless nobody has it. Holes are one.
func (st *store) insert(b *bucket, r rec) bool {
	if r.mask == 0 {
		return false
	}
	i, j := b.find(r.chunk)
	for k := i; k < j; k++ {
		if r.place == hole && b.recs[k].place == hole {
			b.recs[k].mask |= r.mask
			return true
		}
	}
	b.recs = slices.Insert(b.recs, j, r)
	if r.place != hole {
		st.space.use(r.place)
		st.count++
	}
	return true
}

// leave takes a snapshot out of the exceptions of a chunk.
func (st *store) leave(b *bucket, c int64, bit uint64) {
	for i, j := b.find(c); i < j; i++ {
		if r := &b.recs[i]; r.mask&bit != 0 {
			if r.mask &^= bit; r.mask == 0 {
				st.remove(b, i)
			}
			return
		}
	}
}

// remove takes an exception out, and frees its place.
func (st *store) remove(b *bucket, i int) {
	if place := b.recs[i].place; place != hole {
		st.space.drop(place)
		st.count--
	}
	b.recs = slices.Delete(b.recs, i, i+1)
}

// resize gives a bucket, which has changed, the leaves that it needs. One more
// is spare; 0 if there is none.
func (st *store) resize(n int64, b *bucket, spare int64) {
	had := len(b.nodes)
	need := (len(b.recs) + recsPerLeaf - 1) / recsPerLeaf
	for len(b.nodes) > need {
		st.nodes.dropNode(b.nodes[len(b.nodes)-1])
		b.nodes = b.nodes[:len(b.nodes)-1]
	}
	switch {
	case len(b.nodes) < need:
		b.nodes = append(b.nodes, spare)
		st.nodes.useNode(spare)
	case spare != 0:
		st.nodes.giveBack(spare)
	}
	if had == 0 || need == 0 {
		st.dirtyDirs[n/dirPerPage] = true
	}
	if st.dirtyBuckets[n] = true; need == 0 {
		delete(st.buckets, n)
		delete(st.dirtyBuckets, n)
	}
}

func (st *store) Abandon(p *snapshot.Plan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	mine := p.Private.(*private)
	st.space.release(mine.places)
	st.nodes.giveBack(mine.leaf)
}

func (st *store) Home(ctx context.Context, v snapshot.ID, c, n int64) error {
	for ; n > 0; c, n = c+1, n-1 {
		if err := st.lockWithRoom(ctx); err != nil {
			return err
		}
		err := st.homeOne(v, c)
		st.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (st *store) homeOne(v snapshot.ID, c int64) error {
	if v == snapshot.Origin {
		return nil
	}
	bit, err := st.bit(v)
	if err != nil {
		return err
	}
	b := st.buckets[c/bucketChunks]
	for i, j := b.find(c); i < j; i++ {
		if b.recs[i].mask&bit != 0 {
			st.remove(b, i)
			st.resize(c/bucketChunks, b, 0)
			return nil
		}
	}
	return nil
}
