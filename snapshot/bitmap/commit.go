package bitmap

import (
	"context"
	"maps"

	"github.com/strata-storage/strata/snapshot"
)

// headroom is how many pages one change may make dirty: the leaves of a bucket,
// of the bitmap and of the directory.
const headroom = maxLeaves + maxScatter + 8

// dirty returns how many pages would be committed, with all of the state.
func (st *store) dirty() int64 {
	n := st.inflight + stateBlocks + len(st.dirtyDirs) + len(st.space.dirty)
	for b := range st.dirtyBuckets {
		n += len(st.buckets[b].nodes)
	}
	return int64(n)
}

// room reports whether a transaction has room for another change.
func (st *store) room() bool { return st.roomFor(0) }

// roomFor is room when a change is under way that makes more pages dirty.
func (st *store) roomFor(more int) bool { return st.dirty()+int64(more)+headroom < st.l.journal }

// lockWithRoom locks mu when there is room for another change, for which it
// commits what is staged if it must.
func (st *store) lockWithRoom(ctx context.Context) error {
	for {
		st.mu.Lock()
		if st.room() {
			return nil
		}
		st.mu.Unlock()
		if err := st.Commit(ctx, 0); err != nil {
			return err
		}
	}
}

// A staged set is what a commit makes durable.
type staged struct {
	pages                map[int64][]byte
	buckets, dirs, space map[int64]bool
	state, written       bool
	stream               [][]byte
	freed, nodes         []int64
}

func (st *store) Commit(ctx context.Context, _ uint64) error {
	if st.cfg.ReadOnly {
		// Nothing can be staged.
		return nil
	}
	st.io.Lock()
	freed, err := st.commit(ctx)
	st.io.Unlock()
	if len(freed) > 0 {
		st.cfg.Retire(func() {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.space.release(freed)
		})
	}
	return err
}

// commit returns the chunks that are free now.
func (st *store) commit(ctx context.Context) ([]int64, error) {
	st.mu.Lock()
	s := st.collect()
	st.inflight = len(s.pages)
	st.mu.Unlock()
	err := st.write(ctx, s)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.inflight = 0
	if err != nil {
		st.restore(s)
		return nil, err
	}
	if len(s.pages) > 0 {
		st.j.accept(s.pages)
	}
	if s.stream != nil {
		st.pages = s.stream
	}
	st.nodes.waiting = append(st.nodes.waiting, s.nodes...)
	st.commits++
	return s.freed, nil
}

// write puts a staged set into the journal. Data that it refers to are durable
// before, as the journal does not know whether they are there.
func (st *store) write(ctx context.Context, s *staged) error {
	if len(s.pages) > 0 {
		if s.written {
			if err := st.cfg.Device.Flush(ctx); err != nil {
				return err
			}
		}
		if st.j.full(len(s.pages)) {
			if err := st.checkpointHeld(ctx); err != nil {
				return err
			}
		}
		if err := st.j.append(ctx, s.pages); err != nil {
			return err
		}
	}
	return st.cfg.Device.Flush(ctx)
}

// checkpoint empties the journal.
func (st *store) checkpoint(ctx context.Context) error {
	st.io.Lock()
	defer st.io.Unlock()
	if len(st.j.logged) == 0 && !st.j.stale {
		return nil
	}
	return st.checkpointHeld(ctx)
}

// tidy empties the journal if it is half full or keeps leaves from being used
// again.
func (st *store) tidy(ctx context.Context) error {
	st.io.Lock()
	defer st.io.Unlock()
	st.mu.RLock()
	waiting := len(st.nodes.waiting)
	st.mu.RUnlock()
	if waiting == 0 && st.j.at < st.l.journal/2 {
		return nil
	}
	return st.checkpointHeld(ctx)
}

func (st *store) checkpointHeld(ctx context.Context) error {
	if err := st.j.checkpoint(ctx); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.nodes.rested()
	return nil
}

// collect takes what is staged.
func (st *store) collect() *staged {
	s := &staged{pages: map[int64][]byte{}, buckets: st.dirtyBuckets, dirs: st.dirtyDirs, space: st.space.dirty,
		state: st.dirtyState, written: st.written, freed: st.space.freed, nodes: st.nodes.freed}
	st.dirtyBuckets, st.dirtyDirs, st.space.dirty = map[int64]bool{}, map[int64]bool{}, map[int64]bool{}
	st.dirtyState, st.written, st.space.freed, st.nodes.freed = false, false, nil, nil
	for n := range s.buckets {
		st.leaves(s, n)
	}
	for i := range s.dirs {
		p := make([]byte, pageSize)
		for k := range int64(dirPerPage) {
			if b := st.buckets[i*dirPerPage+k]; b != nil && len(b.nodes) > 0 {
				le.PutUint64(p[pageHead+k*8:], uint64(b.nodes[0]))
			}
		}
		st.add(s, p, dirPage, st.l.dir+i)
	}
	for i := range s.space {
		p := make([]byte, pageSize)
		words := st.space.used[i*bitsPerPage/64 : min((i+1)*bitsPerPage/64, int64(len(st.space.used)))]
		for k, w := range words {
			le.PutUint64(p[pageHead+k*8:], w)
		}
		st.add(s, p, bitsPage, st.l.bits+i)
	}
	if s.state {
		st.statePages(s)
	}
	return s
}

func (st *store) add(s *staged, p []byte, kind byte, at int64) {
	seal(p, kind, at, st.j.seq, st.l.id())
	s.pages[at] = p
}

// leaves makes the pages of a bucket.
func (st *store) leaves(s *staged, n int64) {
	b := st.buckets[n]
	for k, at := range b.nodes {
		recs := b.recs[k*recsPerLeaf : min((k+1)*recsPerLeaf, len(b.recs))]
		p := make([]byte, pageSize)
		le.PutUint64(p[32:], uint64(n))
		if k+1 < len(b.nodes) {
			le.PutUint64(p[40:], uint64(b.nodes[k+1]))
		}
		le.PutUint32(p[48:], uint32(len(recs)))
		for i, r := range recs {
			e := p[leafHead+i*recSize:]
			le.PutUint64(e, uint64(r.chunk))
			le.PutUint64(e[8:], uint64(r.place))
			le.PutUint64(e[16:], r.mask)
		}
		st.add(s, p, leafPage, at)
	}
}

// statePages makes the pages of the state that are not what they were.
func (st *store) statePages(s *staged) {
	stream := st.encode()
	for i := 0; len(stream) > 0; i++ {
		p := make([]byte, pageSize)
		stream = stream[copy(p[pageHead:], stream):]
		payload := p[pageHead:]
		s.stream = append(s.stream, payload)
		if i >= len(st.pages) || string(st.pages[i]) != string(payload) {
			st.add(s, p, statePage, st.l.state+int64(i))
		}
	}
}

// restore stages again what could not be committed.
func (st *store) restore(s *staged) {
	for n := range s.buckets {
		if st.buckets[n] != nil {
			st.dirtyBuckets[n] = true
		}
	}
	maps.Copy(st.dirtyDirs, s.dirs)
	maps.Copy(st.space.dirty, s.space)
	st.dirtyState, st.written = st.dirtyState || s.state, st.written || s.written
	st.space.freed = append(st.space.freed, s.freed...)
	st.nodes.freed = append(st.nodes.freed, s.nodes...)
}

var _ snapshot.Store = (*store)(nil)
