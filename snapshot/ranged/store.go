// Package ranged is the default kind of snapshot store. An entry of its map
// gives a range of consecutive snapshots the place of a chunk, so one copy
// serves any number of snapshots, and taking one costs the same however many
// there are. The origin counts as the newest of them, so that it can have
// places on the store as well.
//
// Each commit appends what has changed to a log, with the checksums of the data
// it is about: data and log become durable by one flush, and a commit whose data
// did not arrive is not one. From time to time a commit writes the whole map
// instead, a checkpoint, and the log starts anew. The format is described in
// docs/format-ranged.md.
//
// The map is kept in memory as a whole, some hundred bytes for each chunk and
// range; a checkpoint writes and loading reads all of it. There is no tree on
// the device yet. What deleted snapshots used is found by a walk over the map.
//
// With share=exact each copy belongs to one entry, so that a write to a snapshot
// in the middle of one costs a copy more; with share=refs, the default, entries
// share copies.
package ranged

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func init() {
	snapshot.Register(snapshot.Kind{
		Name: "ranged", New: newStore, Caps: capabilities,
		Doc:   "Any number of writable snapshots, with a log and checksums.",
		Args:  []snapshot.Arg{{Name: "share", Default: "refs", Doc: "refs or exact: whether several ranges of snapshots share a copy"}},
		Match: func(head []byte) bool { return bytes.HasPrefix(head, []byte(superMagic)) },
	})
}

var capabilities = snapshot.Caps{
	Chunk: snapshot.DefaultChunk, Persistent: true, Writable: true, Redirect: true, Home: true, Values: true, Sums: true, Cluster: true,
}

type store struct {
	cfg   snapshot.Config
	caps  snapshot.Caps
	exact bool
	geo   geometry
	mount uint64

	mu sync.RWMutex
	*state
	// staged are the records since the last commit was made, data says that
	// there are places among them.
	staged writer
	data   bool
	// planned bounds the entries that open plans may add.
	planned int64
	// walk are the chunks that Step has yet to look at.
	walk            []int64
	walking         bool
	visits, commits int64

	// turn is held by who commits; what follows is his, but may be read under
	// mu.
	turn sync.Mutex
	journal
}

func newStore(cfg snapshot.Config) (snapshot.Store, error) {
	st := &store{cfg: cfg, caps: capabilities}
	for name, value := range cfg.Args {
		if name != "share" || value != "refs" && value != "exact" {
			return nil, fmt.Errorf("argument %s=%q of a ranged store, expected share=refs or share=exact: %w", name, value, block.ErrInvalid)
		}
		st.exact = value == "exact"
	}
	if b := cfg.Device.Info().MinBlock; b > blockSize {
		return nil, fmt.Errorf("the device has blocks of %d bytes, a ranged store needs %d or less: %w", b, blockSize, block.ErrInvalid)
	}
	if cfg.Chunk != 0 {
		st.caps.Chunk = cfg.Chunk
	}
	return st, nil
}

func (st *store) Caps() snapshot.Caps { return st.caps }

// maxLook bounds the chunks that Map looks at.
const maxLook = 256

func (st *store) Map(_ context.Context, v snapshot.ID, c, n int64, _ block.Flags) (snapshot.Segment, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if err := st.exists(v); err != nil {
		return snapshot.Segment{}, err
	}
	if len(st.chunks) == 0 {
		return snapshot.Segment{N: n, Writable: v == snapshot.Origin && len(st.live) == 0}, nil
	}
	seg := st.at(v, c)
	want := seg
	for n = min(n, maxLook); seg.N < n; seg.N++ {
		if want.Where == snapshot.OnStore {
			want.Off += st.geo.chunk
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
	all := st.chunks[c]
	i := find(all, internal(v))
	if i < 0 {
		seg.Writable = v == snapshot.Origin && st.onOrigin(c) == 0
		return seg
	}
	e := all[i]
	if seg.Where = e.where; e.where == snapshot.OnStore {
		seg.Off = st.geo.off(e.slot)
		// A log that may be replayed has the checksum of what was born after
		// the mark.
		seg.Writable = e.born <= st.mark && st.alone(e)
	}
	return seg
}

// alone reports whether an entry has one user, who shares its place with nobody.
func (st *store) alone(e entry) bool {
	return st.users(e.from, e.to) == 1 && st.space.more[e.slot] == 0
}

// stage carries out a record and notes it for the next commit.
func (st *store) stage(r *record) {
	st.do(r)
	r.encode(&st.staged)
}

func (st *store) Home(_ context.Context, v snapshot.ID, c, n int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(v); err != nil {
		return err
	}
	st.stage(&record{op: opHome, view: v, chunk: c, n: n})
	return nil
}

func (st *store) Create(_ context.Context, of snapshot.ID) (snapshot.ID, error) {
	if of != snapshot.Origin {
		return 0, fmt.Errorf("a ranged store has no snapshots of snapshots: %w", block.ErrNotSupported)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	id := st.next
	st.stage(&record{op: opCreate, ids: []snapshot.ID{id}})
	return id, nil
}

func (st *store) Delete(_ context.Context, ids []snapshot.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range ids {
		if err := st.exists(id); err != nil || id == snapshot.Origin {
			return fmt.Errorf("deleting snapshot %d: %w", id, snapshot.ErrNoSnapshot)
		}
	}
	st.stage(&record{op: opDelete, ids: slices.Clone(ids)})
	st.walking = false
	return nil
}

func (st *store) Snapshots() []snapshot.ID {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return slices.Clone(st.live)
}

// Step looks at the chunks one after the other, for entries without users.
func (st *store) Step(_ context.Context, budget int) (snapshot.Progress, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.dead {
		return snapshot.Progress{}, nil
	}
	if !st.walking {
		st.walk = slices.Sorted(maps.Keys(st.chunks))
		i, _ := slices.BinarySearch(st.walk, st.cursor)
		st.walk, st.walking = st.walk[i:], true
	}
	r := record{op: opPrune, cursor: st.geo.chunks()}
	for ; budget > 0 && len(st.walk) > 0; budget-- {
		if c := st.walk[0]; st.useless(c) {
			r.chunks = append(r.chunks, c)
		}
		st.walk = st.walk[1:]
		st.visits++
	}
	if r.dead = len(st.walk) > 0; r.dead {
		r.cursor = st.walk[0]
	}
	st.walking = r.dead
	st.stage(&r)
	done := int64(len(st.chunks) - len(st.walk))
	return snapshot.Progress{Done: max(done, 1), Total: max(int64(len(st.chunks)), 1), More: r.dead}, nil
}

func (st *store) Put(_ context.Context, key string, value []byte) error {
	if len(key) > 64 || len(value) > snapshot.MaxValue {
		return fmt.Errorf("a key of %d bytes with a value of %d, expected at most 64 and %d: %w", len(key), len(value), snapshot.MaxValue, block.ErrInvalid)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.stage(&record{op: opPut, key: key, value: bytes.Clone(value)})
	return nil
}

func (st *store) Values() iter.Seq2[string, []byte] {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.All(maps.Clone(st.values))
}
