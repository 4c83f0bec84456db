// Package transient is a kind of snapshot store whose map is in memory: the
// snapshots are gone when it is closed. The origin device is a valid image at
// every moment, as only copies are kept on the store device.
//
// A chunk has a list of entries (from, to, place): the snapshots from one ID to
// another have the place, all others the origin device. One entry serves any
// number of consecutive snapshots. With share=exact a place belongs to one
// entry, so that a write to a snapshot in the middle of one costs a copy more;
// with share=refs, the default, entries share places, which are counted.
package transient

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func init() {
	snapshot.Register(snapshot.Kind{
		Name: "transient", New: newStore,
		Doc:  "Snapshots that are gone when the store is closed.",
		Args: []snapshot.Arg{{Name: "share", Default: "refs", Doc: "refs or exact: whether several ranges of snapshots share a copy"}},
		Caps: capabilities,
	})
}

var capabilities = snapshot.Caps{Chunk: snapshot.DefaultChunk, Writable: true, Home: true, Values: true}

// A store has chunks only on its device.
type store struct {
	cfg   snapshot.Config
	caps  snapshot.Caps
	exact bool

	mu     sync.RWMutex
	space  space
	chunks map[int64][]entry
	// live are the snapshots, in order; next is the ID of the next one.
	live []snapshot.ID
	next snapshot.ID
	// dead counts the snapshots that were deleted since the walk began;
	// walk are the chunks to look at, walked those behind.
	dead, restart  bool
	walk           []int64
	walked         int64
	visits, commit int64
	values         map[string][]byte
}

// An entry says that the snapshots from one to another have a place.
type entry struct {
	from, to snapshot.ID
	place    snapshot.Place
}

func newStore(cfg snapshot.Config) (snapshot.Store, error) {
	st := &store{cfg: cfg, caps: capabilities, next: 1, chunks: map[int64][]entry{}, values: map[string][]byte{}}
	for name, value := range cfg.Args {
		if name != "share" || value != "refs" && value != "exact" {
			return nil, fmt.Errorf("argument %s=%q of a transient store, expected share=refs or share=exact: %w", name, value, block.ErrInvalid)
		}
		st.exact = value == "exact"
	}
	st.caps.Chunk = cmp.Or(cfg.Chunk, snapshot.DefaultChunk)
	return st, nil
}

func (st *store) Load(ctx context.Context) error {
	if st.cfg.Format == snapshot.Never {
		return fmt.Errorf("a transient store must be formatted: %w", snapshot.ErrNoStore)
	}
	st.space = newSpace(st.cfg.Device.Info().Size >> bits.TrailingZeros64(uint64(st.caps.Chunk)))
	return nil
}

func (st *store) Close(context.Context) error { return nil }

func (st *store) Caps() snapshot.Caps { return st.caps }

// exists reports whether v is a view.
func (st *store) exists(v snapshot.ID) error {
	if _, ok := slices.BinarySearch(st.live, v); v == snapshot.Origin || ok {
		return nil
	}
	return fmt.Errorf("snapshot %d: %w", v, snapshot.ErrNoSnapshot)
}

// users returns how many snapshots from one ID to another there are.
func (st *store) users(from, to snapshot.ID) int {
	i, _ := slices.BinarySearch(st.live, from)
	j, _ := slices.BinarySearch(st.live, to+1)
	return j - i
}

// find returns the entry of a chunk that covers a snapshot, or -1.
func find(all []entry, v snapshot.ID) int {
	i, _ := slices.BinarySearchFunc(all, v, func(e entry, v snapshot.ID) int { return cmp.Compare(e.to, v) })
	if i < len(all) && all[i].from <= v {
		return i
	}
	return -1
}

// onOrigin returns how many snapshots have the origin device as the place of a
// chunk.
func (st *store) onOrigin(c int64) int {
	n := len(st.live)
	for _, e := range st.chunks[c] {
		n -= st.users(e.from, e.to)
	}
	return n
}

// maxRun bounds the chunks that Map looks at.
const maxRun = 256

func (st *store) Map(_ context.Context, v snapshot.ID, c, n int64, _ block.Flags) (snapshot.Segment, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if err := st.exists(v); err != nil {
		return snapshot.Segment{}, err
	}
	if len(st.live) == 0 {
		return snapshot.Segment{N: n, Writable: true}, nil
	}
	seg := st.at(v, c)
	want := seg
	for n = min(n, maxRun); seg.N < n; seg.N++ {
		if want.Where == snapshot.OnStore {
			want.Off += st.caps.Chunk
		}
		if st.at(v, c+seg.N) != want {
			break
		}
	}
	return seg, nil
}

// at is Map for one chunk.
func (st *store) at(v snapshot.ID, c int64) snapshot.Segment {
	seg := snapshot.Segment{N: 1}
	if v == snapshot.Origin {
		seg.Writable = st.onOrigin(c) == 0
		return seg
	}
	all := st.chunks[c]
	if i := find(all, v); i >= 0 {
		seg.Place = all[i].place
		seg.Writable = seg.Where == snapshot.OnStore && st.users(all[i].from, all[i].to) == 1 && st.space.uses(st.slot(seg.Off)) == 1
	}
	return seg
}

func (st *store) slot(off int64) int64 { return off / st.caps.Chunk }

func (st *store) Create(_ context.Context, of snapshot.ID) (snapshot.ID, error) {
	if of != snapshot.Origin {
		return 0, fmt.Errorf("a transient store has no snapshots of snapshots: %w", block.ErrNotSupported)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	id := st.next
	st.next++
	// Readers have the slice.
	st.live = append(slices.Clip(st.live), id)
	return id, nil
}

func (st *store) Delete(_ context.Context, ids []snapshot.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range ids {
		if err := st.exists(id); err != nil {
			return err
		}
	}
	st.live = slices.DeleteFunc(slices.Clone(st.live), func(id snapshot.ID) bool { return slices.Contains(ids, id) })
	st.dead, st.restart = true, true
	return nil
}

func (st *store) Snapshots() []snapshot.ID {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return slices.Clone(st.live)
}

// Step looks at the chunks one after the other, for entries without snapshots.
func (st *store) Step(_ context.Context, budget int) (snapshot.Progress, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.dead {
		return snapshot.Progress{}, nil
	}
	if st.restart {
		st.walk, st.walked, st.restart = slices.Collect(maps.Keys(st.chunks)), 0, false
	}
	for ; budget > 0 && len(st.walk) > 0; budget-- {
		st.prune(st.walk[0])
		st.walk = st.walk[1:]
		st.walked++
		st.visits++
	}
	p := snapshot.Progress{Done: st.walked, Total: st.walked + int64(len(st.walk)), More: len(st.walk) > 0}
	st.dead = p.More
	return p, nil
}

// prune drops the entries of a chunk that no snapshot uses.
func (st *store) prune(c int64) {
	all := st.chunks[c][:0]
	for _, e := range st.chunks[c] {
		if st.users(e.from, e.to) > 0 {
			all = append(all, e)
		} else {
			st.drop(e.place)
		}
	}
	st.keep(c, all)
}

func (st *store) keep(c int64, all []entry) {
	if st.chunks[c] = all; len(all) == 0 {
		delete(st.chunks, c)
	}
}

func (st *store) drop(p snapshot.Place) {
	if p.Where == snapshot.OnStore {
		st.space.drop(st.slot(p.Off))
	}
}

func (st *store) Put(_ context.Context, key string, value []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if delete(st.values, key); value != nil {
		st.values[key] = slices.Clone(value)
	}
	return nil
}

func (st *store) Values() iter.Seq2[string, []byte] {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.All(maps.Clone(st.values))
}

// Commit has nothing to make durable but lets freed places be used again.
func (st *store) Commit(context.Context, uint64) error {
	st.mu.Lock()
	freed := st.space.freed
	st.space.freed = nil
	st.commit++
	st.mu.Unlock()
	if len(freed) > 0 {
		st.cfg.Retire(func() {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.space.release(freed)
		})
	}
	return nil
}

func (st *store) Refresh(context.Context) (bool, error) { return false, block.ErrNotSupported }
