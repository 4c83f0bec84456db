package legacy

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func (st *store) Plan(_ context.Context, r snapshot.Request) (*snapshot.Plan, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(r.View); err != nil {
		return nil, err
	}
	if (r.Op == snapshot.Detach) != (r.View == snapshot.Origin) {
		return nil, fmt.Errorf("a legacy store keeps no data of the origin: %w", block.ErrNotSupported)
	}
	p := &snapshot.Plan{Request: r}
	at, here := st.chunks[r.Chunk]
	p.N = st.alike(r.Chunk, r.N)
	if r.Op == snapshot.Detach && (here || st.live == 0) {
		return p, nil
	}
	if here {
		// An exception cannot be replaced. Nobody else has the place, and
		// until the exception is durable nobody needs what is there.
		p.Old = st.place(at)
	} else {
		var err error
		if at, p.N, err = st.space.alloc(p.N); err != nil {
			return nil, err
		}
		p.OldShared = true
		p.Private = span{at, at + p.N}
	}
	to := st.place(at).Off
	switch r.Op {
	case snapshot.Detach:
		p.Copies = []snapshot.Copy{{From: snapshot.Place{Where: snapshot.OnOrigin}, To: []int64{to}}}
	case snapshot.Clear:
		// The format has no holes.
		p.Copies = []snapshot.Copy{{From: snapshot.Place{Where: snapshot.Hole}, To: []int64{to}}}
	case snapshot.Write:
		p.Target = to
	}
	return p, nil
}

// alike returns how many of n chunks from c on have no exceptions, or have them
// at adjacent places.
func (st *store) alike(c, n int64) int64 {
	first, here := st.chunks[c]
	for i := int64(1); i < n; i++ {
		if at, also := st.chunks[c+i]; also != here || here && at != first+i {
			return i
		}
	}
	return n
}

func (st *store) Apply(_ context.Context, p *snapshot.Plan) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	fresh, ok := p.Private.(span)
	if !ok {
		return nil
	}
	for i := range p.N {
		e := entry{p.Chunk + i, fresh.from + i}
		st.chunks[e.old] = e.new
		st.staged = append(st.staged, e)
	}
	st.mine.add(fresh)
	return nil
}

func (st *store) Abandon(p *snapshot.Plan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if fresh, ok := p.Private.(span); ok {
		st.space.release(fresh)
	}
}

func (st *store) Home(context.Context, snapshot.ID, int64, int64) error {
	return fmt.Errorf("in a legacy store nothing comes home: %w", block.ErrNotSupported)
}
