// Package legacy is the kind of snapshot store that the Linux kernel's
// dm-snapshot has: the persistent exception store, version 1 of the format,
// read and written so that either can go on where the other stopped.
//
// There is one snapshot for each store device. Its exceptions are a list that
// only grows, so that deleting the snapshot is to declare the whole store
// invalid, and taking the next one to begin a new list. There are no checksums,
// no names and no times: after the store was loaded the snapshot is called "1".
// The origin device is a valid image at every moment. All exceptions are in
// memory. docs/format-legacy.md describes the format.
package legacy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func init() {
	snapshot.Register(snapshot.Kind{
		Name: "legacy", New: newStore, Caps: capabilities,
		Doc:   "One snapshot in the format of the Linux kernel's dm-snapshot.",
		Match: func(head []byte) bool { return bytes.HasPrefix(head, []byte("SnAp")) },
	})
}

var capabilities = snapshot.Caps{
	Chunk: snapshot.DefaultChunk, MaxSnapshots: 1, Persistent: true, Writable: true, Cluster: true,
}

// A store has one snapshot, or none.
type store struct {
	cfg  snapshot.Config
	caps snapshot.Caps
	layout

	mu     sync.RWMutex
	loaded bool
	// live is the snapshot, 0 if there is none; next is the ID of the next.
	live, next snapshot.ID
	// chunks are the exceptions of the snapshot, staged those that are not
	// durable yet, in the order in which they become durable.
	chunks map[int64]int64
	staged []entry
	// mine is what the snapshot uses on the store device.
	mine  spans
	space space
	// epoch counts how often space was made anew.
	epoch int
	// dead is what deleted snapshots had until Step has seen it, limbo what
	// the next commit sets free, retiring what only readers may still use.
	dead, limbo spans
	retiring    int64
	stats       snapshot.Stats

	// commit is held by those who change the metadata on the device, and
	// guards disk.
	commit sync.Mutex
	disk   disk
}

func newStore(cfg snapshot.Config) (snapshot.Store, error) {
	for name, value := range cfg.Args {
		return nil, fmt.Errorf("argument %s=%q: a legacy store has none: %w", name, value, block.ErrInvalid)
	}
	st := &store{cfg: cfg, caps: capabilities, next: 1}
	st.caps.Chunk = cmp.Or(cfg.Chunk, snapshot.DefaultChunk)
	return st, nil
}

func (st *store) Load(ctx context.Context) error {
	err := st.load(ctx)
	if st.cfg.Format == snapshot.Always || st.cfg.Format == snapshot.IfBlank && errors.Is(err, snapshot.ErrNoStore) {
		err = st.format(ctx, err)
	}
	st.loaded = err == nil
	return err
}

// format makes a store without a snapshot.
func (st *store) format(ctx context.Context, why error) error {
	size := st.cfg.Device.Info().Size
	if st.cfg.ReadOnly {
		return block.ErrReadOnly
	}
	if st.cfg.Format == snapshot.IfBlank {
		head := make([]byte, min(size, 64<<10))
		if err := readAll(ctx, st.cfg.Device, head, 0); err != nil {
			return err
		}
		if !block.IsZero(head) {
			return why
		}
	}
	st.layout = newLayout(st.caps.Chunk, size, st.cfg.OriginSize)
	if st.total < minChunks {
		return fmt.Errorf("the store has %d bytes, must have at least %d chunks of %d: %w", size, minChunks, st.chunk, block.ErrInvalid)
	}
	if err := writeAll(ctx, st.cfg.Device, st.header(false), 0); err != nil {
		return err
	}
	st.reset(nil)
	return st.cfg.Device.Flush(ctx)
}

// reset begins with the exceptions of a list.
func (st *store) reset(used []int64) {
	st.space = newSpace(st.layout, used)
	st.epoch++
	st.dead, st.limbo, st.retiring, st.staged, st.mine = nil, nil, 0, nil, nil
	for _, n := range used {
		st.mine.add(span{n, n + 1})
	}
	if st.live == 0 {
		st.chunks, st.disk = nil, disk{shared: st.disk.shared}
	}
}

// load reads header and exceptions.
func (st *store) load(ctx context.Context) error {
	l, valid, err := st.readHeader(ctx)
	if err != nil {
		return err
	}
	st.layout, st.caps.Chunk, st.live = l, l.chunk, 0
	if !valid {
		st.reset(nil)
		return nil
	}
	chunks, used, d, err := l.readList(ctx, st.cfg.Device)
	if err != nil {
		return err
	}
	st.live, st.chunks = st.next, chunks
	st.next++
	d.valid, d.holds, d.shared = true, st.live, st.disk.shared
	st.disk = d
	st.reset(used)
	return nil
}

func (st *store) readHeader(ctx context.Context) (l layout, valid bool, err error) {
	size := st.cfg.Device.Info().Size
	head := make([]byte, min(size, max(sector, int64(st.cfg.Device.Info().MinBlock))))
	if len(head) < sector {
		return l, false, fmt.Errorf("the device has %d bytes: %w", size, snapshot.ErrNoStore)
	}
	if err := readAll(ctx, st.cfg.Device, head, 0); err != nil {
		return l, false, err
	}
	chunk, valid, err := parseHeader(head)
	if err != nil {
		return l, false, err
	}
	if want := st.cfg.Chunk; want != 0 && want != chunk {
		return l, false, fmt.Errorf("the store has chunks of %d bytes, expected %d: %w", chunk, want, snapshot.ErrMismatch)
	}
	if l = newLayout(chunk, size, st.cfg.OriginSize); l.total < minChunks {
		return l, false, fmt.Errorf("the store has %d bytes, must have at least %d chunks of %d: %w", size, minChunks, chunk, snapshot.ErrDamaged)
	}
	return l, valid, nil
}

// readList reads all exceptions, with the chunks that they use in order.
func (l layout) readList(ctx context.Context, dev block.Device) (chunks map[int64]int64, used []int64, d disk, err error) {
	chunks = map[int64]int64{}
	err = l.readAreas(ctx, dev, 0, func(area int64, all []entry, litter bool) error {
		for _, e := range all {
			if _, ok := chunks[e.old]; ok {
				return fmt.Errorf("there are two exceptions for chunk %d: %w", e.old, snapshot.ErrDamaged)
			}
			chunks[e.old] = e.new
			used = append(used, e.new)
		}
		d.area, d.last, d.litter = area, all, litter
		return nil
	})
	if err != nil {
		return nil, nil, d, err
	}
	d.turn(l)
	slices.Sort(used)
	for i := 1; i < len(used); i++ {
		if used[i] == used[i-1] {
			return nil, nil, d, fmt.Errorf("two chunks lie at %d: %w", used[i], snapshot.ErrDamaged)
		}
	}
	return chunks, used, d, nil
}

// Close writes nothing if there is a lock, which may be lost: the engine has
// committed what it could. Otherwise it leaves nothing behind the end of the
// list, which the kernel could take for a part of it when it goes on.
func (st *store) Close(ctx context.Context) error {
	if !st.loaded || st.cfg.ReadOnly || st.disk.shared {
		return nil
	}
	st.mu.RLock()
	clean := len(st.staged) == 0 && st.live == st.disk.holds && st.disk.valid == (st.live != 0) && !st.disk.litter
	st.mu.RUnlock()
	if clean {
		return nil
	}
	if err := st.fence(ctx); err != nil {
		return err
	}
	return st.Commit(ctx, 0)
}

func (st *store) Caps() snapshot.Caps { return st.caps }

// exists reports whether v is a view.
func (st *store) exists(v snapshot.ID) error {
	if v == snapshot.Origin || v == st.live {
		return nil
	}
	return fmt.Errorf("snapshot %d: %w", v, snapshot.ErrNoSnapshot)
}

// maxRun bounds the chunks that Map looks at.
const maxRun = 256

func (st *store) Map(_ context.Context, v snapshot.ID, c, n int64, _ block.Flags) (snapshot.Segment, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if err := st.exists(v); err != nil {
		return snapshot.Segment{}, err
	}
	if st.live == 0 {
		return snapshot.Segment{N: n, Writable: true}, nil
	}
	first, here := st.chunks[c]
	seg := snapshot.Segment{N: 1, Writable: here}
	if v != snapshot.Origin && here {
		seg.Place = st.place(first)
	}
	for n = min(n, maxRun); seg.N < n; seg.N++ {
		at, also := st.chunks[c+seg.N]
		if also != here || seg.Where == snapshot.OnStore && at != first+seg.N {
			break
		}
	}
	return seg, nil
}

func (st *store) place(n int64) snapshot.Place {
	return snapshot.Place{Where: snapshot.OnStore, Off: n << st.shift}
}

func (st *store) Create(_ context.Context, of snapshot.ID) (snapshot.ID, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch err := st.exists(of); {
	case err != nil:
		return 0, err
	case of != snapshot.Origin:
		return 0, fmt.Errorf("a legacy store has no snapshots of snapshots: %w", block.ErrNotSupported)
	case st.live != 0:
		return 0, fmt.Errorf("a legacy store has one snapshot: %w", snapshot.ErrTooMany)
	}
	st.live, st.chunks = st.next, map[int64]int64{}
	st.next++
	return st.live, nil
}

// Delete gives up all that is in use: there are no plans.
func (st *store) Delete(_ context.Context, ids []snapshot.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range ids {
		if err := st.exists(id); err != nil || id == snapshot.Origin {
			return fmt.Errorf("snapshot %d: %w", id, snapshot.ErrNoSnapshot)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	st.dead = append(st.dead, st.mine...)
	st.live, st.chunks, st.staged, st.mine = 0, nil, nil, nil
	return nil
}

func (st *store) Snapshots() []snapshot.ID {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.live == 0 {
		return nil
	}
	return []snapshot.ID{st.live}
}

// Step lets the next commit set free what a deleted snapshot had.
func (st *store) Step(_ context.Context, budget int) (snapshot.Progress, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := min(max(budget, 1), len(st.dead))
	st.limbo = append(st.limbo, st.dead[:n]...)
	st.dead = st.dead[n:]
	st.stats.Visits += int64(n)
	return snapshot.Progress{Done: int64(n), Total: int64(n + len(st.dead)), More: len(st.dead) > 0}, nil
}

func (st *store) Put(context.Context, string, []byte) error {
	return fmt.Errorf("a legacy store keeps no values: %w", block.ErrNotSupported)
}

func (st *store) Values() iter.Seq2[string, []byte] { return func(func(string, []byte) bool) {} }
