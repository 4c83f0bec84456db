package ranged

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/snapshot"
)

func init() {
	snapshot.Register(snapshot.Kind{
		Name: "ranged", New: newStore, Caps: capabilities,
		Doc: "Any number of writable snapshots, with a log, checksums and trees.",
		Args: []snapshot.Arg{
			{Name: "share", Default: "refs", Doc: "refs or exact: whether several ranges of snapshots share a copy"},
			{Name: "memory", Default: "64M", Doc: "bytes of metadata to keep in memory, at least 1M"},
		},
		Match: func(head []byte) bool { return bytes.HasPrefix(head, []byte(superMagic)) },
	})
}

var capabilities = snapshot.Caps{
	Chunk: snapshot.DefaultChunk, Persistent: true, Writable: true, Redirect: true, Home: true, Values: true, Sums: true, Cluster: true,
}

// Memory: the default, and the least.
const (
	defaultMemory = 64 << 20
	minMemory     = 1 << 20
)

type store struct {
	cfg   snapshot.Config
	caps  snapshot.Caps
	exact bool
	// eager: a checkpoint is always due; tight: the log has room for
	// four blocks. For tests.
	eager, tight bool
	memory       int64
	geo          geometry
	mount        uint64

	// mu is never held while anything is read or written.
	mu sync.RWMutex
	*state
	// staged are the records since the last commit was made, data says that
	// there are places among them.
	staged writer
	data   bool
	// planned bounds the entries that open plans may add.
	planned int64
	// sweep is how far the memtable was looked through.
	sweep           sweep
	visits, commits int64

	// making is held by who makes a checkpoint, turn by who commits, in that
	// order and before mu. What follows belongs to them, but may be read
	// under mu.
	making sync.Mutex
	draft  *draft
	// gone and links are the blocks and nodes of the last checkpoint that are
	// not needed any more.
	gone  []int64
	links []*link
	turn  sync.Mutex
	journal
	// stale: a Refresh has failed half-way.
	stale bool
	// lost is what there was when others last made this one give up a draft.
	// mu guards it.
	lost loss
}

func newStore(cfg snapshot.Config) (snapshot.Store, error) {
	st := &store{cfg: cfg, caps: capabilities, memory: defaultMemory}
	for name, value := range cfg.Args {
		var err error
		switch {
		case name == "share" && (value == "refs" || value == "exact"):
			st.exact = value == "exact"
		case name == "memory":
			if st.memory, err = units.ParseBytes(value); err != nil || st.memory < minMemory {
				return nil, fmt.Errorf("argument memory=%q of a ranged store, expected a size of at least 1M: %w", value, block.ErrInvalid)
			}
		default:
			return nil, fmt.Errorf("argument %s=%q of a ranged store, expected share=refs, share=exact or memory=SIZE: %w", name, value, block.ErrInvalid)
		}
	}
	if b := cfg.Device.Info().MinBlock; b > blockSize {
		return nil, fmt.Errorf("the device has blocks of %d bytes, a ranged store needs %d or less: %w", b, blockSize, block.ErrInvalid)
	}
	if cfg.Chunk != 0 {
		st.caps.Chunk = cfg.Chunk
	}
	return st, nil
}

// memLimit is what a memtable may take before a checkpoint is due. There can be
// two of them. The other half of the memory is for nodes.
func (st *store) memLimit() int64 { return st.memory / 4 }

// maxBits is for how many segments bits are kept beyond need.
func (st *store) maxBits() int { return int(st.memory / 8 / (st.geo.perSegment()/8 + 64)) }

func (st *store) Caps() snapshot.Caps { return st.caps }

// outdated reports whether trees have been replaced while they were read. The
// space of their nodes may have been used again, so an error means nothing.
func (st *store) outdated(t *trees, err error) bool {
	if err == nil || errors.Is(err, block.ErrWouldBlock) {
		return false
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.state.trees != t
}

// heat reads the bits of a segment if err asks for them. It reports whether to
// try again.
func (st *store) heat(ctx context.Context, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	var seg coldError
	if !errors.As(err, &seg) {
		return false, err
	}
	st.mu.RLock()
	addr, used, bits := st.space.segs[seg].addr, st.space.segs[seg].used, st.space.segs[seg].bits
	st.mu.RUnlock()
	if bits != nil {
		return true, nil
	}
	words, err := st.geo.readBitmap(ctx, st.cfg.Device, int(seg), addr, used)
	st.mu.Lock()
	defer st.mu.Unlock()
	x := &st.space.segs[seg]
	switch {
	case x.addr != addr || x.bits != nil:
		return true, nil // another checkpoint has moved it
	case err == nil:
		x.bits = words
	}
	return err == nil, err
}

// stage carries out a record and notes it for the next commit.
func (st *store) stage(r *record) error {
	n := len(st.staged.b)
	r.encode(&st.staged)
	if err := st.do(r); err != nil {
		st.staged.b = st.staged.b[:n]
		return err
	}
	return nil
}

func (st *store) Create(_ context.Context, of snapshot.ID) (snapshot.ID, error) {
	if of != snapshot.Origin {
		return 0, fmt.Errorf("a ranged store has no snapshots of snapshots: %w", block.ErrNotSupported)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	id := st.next
	if id >= head-1 {
		return 0, fmt.Errorf("there have been %d snapshots: %w", id-1, snapshot.ErrTooMany)
	}
	return id, st.stage(&record{op: opCreate, ids: []snapshot.ID{id}})
}

func (st *store) Delete(_ context.Context, ids []snapshot.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range ids {
		if err := st.exists(id); err != nil || id == snapshot.Origin {
			return fmt.Errorf("deleting snapshot %d: %w", id, snapshot.ErrNoSnapshot)
		}
	}
	return st.stage(&record{op: opDelete, ids: slices.Clone(ids)})
}

func (st *store) Snapshots() []snapshot.ID {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return slices.Clone(st.live)
}

func (st *store) Put(_ context.Context, key string, value []byte) error {
	if len(key) > 64 || len(value) > snapshot.MaxValue {
		return fmt.Errorf("a key of %d bytes with a value of %d, expected at most 64 and %d: %w", len(key), len(value), snapshot.MaxValue, block.ErrInvalid)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.stage(&record{op: opPut, name: key, value: bytes.Clone(value)})
}

func (st *store) Values() iter.Seq2[string, []byte] {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.All(maps.Clone(st.values))
}
