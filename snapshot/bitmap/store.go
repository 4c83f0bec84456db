// Package bitmap is a kind of snapshot store for up to 64 snapshots. It is the
// store of Fujita and Phillips, with a journal: an exception says which chunk of
// the store the snapshots of a mask of 64 bits have for a chunk of the origin,
// so that any set of snapshots shares a copy. A chunk has as many exceptions as
// there are contents of it; a snapshot that is in none has what the origin
// device has. The first write to a chunk of the origin costs one copy, however
// many snapshots there are, and a write to a snapshot none.
//
// Changes are staged in memory. A commit flushes the data that were written,
// if there are any, writes the pages of the metadata that have changed to the
// journal, and flushes again. The whole map is in memory, 24 bytes for each
// exception. The origin device is a valid image at every moment.
//
// docs/format-bitmap.md describes the format.
package bitmap

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func init() {
	snapshot.Register(snapshot.Kind{
		Name: "bitmap", New: newStore, Match: match, Caps: capabilities,
		Doc:  "Up to 64 snapshots; any set of them shares a copy.",
		Args: []snapshot.Arg{{Name: "journal", Default: strconv.Itoa(journalBlocks), Doc: "blocks of 4 KiB in the journal of a store that is formatted"}},
	})
}

var capabilities = snapshot.Caps{Chunk: snapshot.DefaultChunk, MaxSnapshots: maxSnapshots, Persistent: true, Writable: true, Home: true, Values: true}

type store struct {
	cfg     snapshot.Config
	caps    snapshot.Caps
	journal int64

	// io is held by who writes metadata; it comes before mu.
	io sync.Mutex
	mu sync.RWMutex
	l  layout
	*image
	loaded bool
	// dirtyBuckets, dirtyDirs, dirtyState and those of the space are
	// staged.
	dirtyBuckets, dirtyDirs map[int64]bool
	dirtyState              bool
	// inflight is how many pages are being committed, and may be staged
	// again.
	inflight int
	// written: data were written that what is staged refers to.
	written bool
	alive   uint64
	// queue are the buckets that the walk has still to visit.
	queue           []int64
	walking         bool
	walked          int64
	visits, commits int64
}

func newStore(cfg snapshot.Config) (snapshot.Store, error) {
	st := &store{cfg: cfg, caps: capabilities, journal: journalBlocks}
	for name, value := range cfg.Args {
		n, err := strconv.ParseInt(value, 10, 64)
		if name != "journal" || err != nil || n < minJournal || n > maxJournal {
			return nil, fmt.Errorf("argument %s=%q of a bitmap store, expected journal=%d to %d: %w", name, value, minJournal, maxJournal, block.ErrInvalid)
		}
		st.journal = n
	}
	if m := cfg.Device.Info().MinBlock; m > pageSize {
		return nil, fmt.Errorf("the block size of the store is %d bytes, a bitmap store needs at most %d: %w", m, pageSize, block.ErrInvalid)
	}
	st.caps.Chunk = cmp.Or(cfg.Chunk, snapshot.DefaultChunk)
	return st, nil
}

func (st *store) Load(ctx context.Context) error {
	format, err := st.mustFormat(ctx)
	if err == nil && format {
		err = st.format(ctx)
	}
	if err != nil {
		return err
	}
	if st.l, err = st.findSuper(ctx); err != nil {
		return err
	}
	if err := st.fits(); err != nil {
		return err
	}
	st.caps.Chunk = st.l.chunk
	var wrong error
	m, err := readImage(ctx, st.cfg.Device, &st.l, func(error) {}, func(err error) {
		if wrong == nil {
			wrong = fmt.Errorf("%w: %w", err, snapshot.ErrDamaged)
		}
	})
	if err == nil {
		err = wrong
	}
	if err == nil && !st.cfg.ReadOnly && (m.j.stale || len(m.j.logged) > 0) {
		err = m.j.checkpoint(ctx)
	}
	if err != nil {
		return err
	}
	st.image, st.alive, st.loaded = m, m.live(), true
	st.dirtyBuckets, st.dirtyDirs = map[int64]bool{}, map[int64]bool{}
	return nil
}

// mustFormat reports whether the device is to be formatted.
func (st *store) mustFormat(ctx context.Context) (bool, error) {
	size := st.cfg.Device.Info().Size
	if size < 2*pageSize {
		return false, fmt.Errorf("the device has %d bytes: %w", size, snapshot.ErrNoStore)
	}
	if st.cfg.Format != snapshot.IfBlank || st.cfg.ReadOnly {
		return st.cfg.Format == snapshot.Always, nil
	}
	head := make([]byte, min(64<<10, size/pageSize*pageSize))
	err := st.cfg.Device.ReadAt(ctx, head, 0, 0)
	return block.IsZero(head), err
}

// findSuper reads the superblock, or its copy at the end.
func (st *store) findSuper(ctx context.Context) (layout, error) {
	dev := st.cfg.Device
	p := make([]byte, pageSize)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return layout{}, err
	}
	l, err := parseSuper(p, 0)
	if errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, snapshot.ErrNoStore) {
		last := dev.Info().Size/pageSize - 1
		if rerr := dev.ReadAt(ctx, p, last*pageSize, 0); rerr != nil {
			return l, rerr
		}
		if other, oerr := parseSuper(p, last); oerr == nil {
			l, err = other, nil
		}
	}
	return l, err
}

// fits compares the store with what it is for.
func (st *store) fits() error {
	l := &st.l
	size := st.cfg.Device.Info().Size
	switch {
	case size < l.size:
		return fmt.Errorf("the device has %d bytes, expected %d: %w", size, l.size, snapshot.ErrDamaged)
	case l.origin != st.cfg.OriginSize:
		return fmt.Errorf("the store is for an origin of %d bytes, expected %d: %w", l.origin, st.cfg.OriginSize, snapshot.ErrMismatch)
	case st.cfg.Chunk != 0 && st.cfg.Chunk != l.chunk:
		return fmt.Errorf("the store has chunks of %d bytes, expected %d: %w", l.chunk, st.cfg.Chunk, snapshot.ErrMismatch)
	}
	if err := l.plan(); err != nil {
		return fmt.Errorf("%w: %w", err, snapshot.ErrDamaged)
	}
	return nil
}

// format makes a store. The superblocks come last.
func (st *store) format(ctx context.Context) error {
	dev := st.cfg.Device
	l := layout{size: dev.Info().Size / pageSize * pageSize, origin: st.cfg.OriginSize, chunk: st.caps.Chunk, journal: st.journal}
	if _, err := rand.Read(l.uuid[:]); err != nil {
		return err
	}
	if err := l.plan(); err != nil {
		return err
	}
	for _, r := range [][2]int64{{0, l.bits + l.maps}, {l.last, 1}} {
		if err := dev.Zero(ctx, r[0]*pageSize, r[1]*pageSize, 0); err != nil {
			return err
		}
	}
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	p := make([]byte, pageSize)
	copy(p[pageHead:], (&state{next: 1}).encode())
	seal(p, statePage, l.state, 0, l.id())
	if err := dev.WriteAt(ctx, p, l.state*pageSize, 0); err != nil {
		return err
	}
	j := journal{dev: dev, l: &l, seq: 1, stale: true}
	if err := j.checkpoint(ctx); err != nil {
		return err
	}
	for _, at := range []int64{l.last, 0} {
		if err := dev.WriteAt(ctx, l.super(at), at*pageSize, 0); err != nil {
			return err
		}
	}
	return dev.Flush(ctx)
}

func (st *store) Close(ctx context.Context) error {
	if !st.loaded || st.cfg.ReadOnly {
		return nil
	}
	st.loaded = false
	if err := st.Commit(ctx, 0); err != nil {
		return err
	}
	return st.checkpoint(ctx)
}

func (st *store) Caps() snapshot.Caps { return st.caps }

// bit returns the bit of a snapshot.
func (st *store) bit(v snapshot.ID) (uint64, error) {
	i, ok := slices.BinarySearchFunc(st.snaps, v, func(x snap, v snapshot.ID) int { return cmp.Compare(x.id, v) })
	if !ok {
		return 0, fmt.Errorf("snapshot %d: %w", v, snapshot.ErrNoSnapshot)
	}
	return 1 << st.snaps[i].bit, nil
}

// maxRun bounds the chunks that Map looks at.
const maxRun = 256

func (st *store) Map(_ context.Context, v snapshot.ID, c, n int64, _ block.Flags) (snapshot.Segment, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	bit := uint64(0)
	if v != snapshot.Origin {
		var err error
		if bit, err = st.bit(v); err != nil {
			return snapshot.Segment{}, err
		}
	} else if st.alive == 0 {
		return snapshot.Segment{N: n, Writable: true}, nil
	}
	seg := st.at(bit, c)
	want := seg
	for n = min(n, maxRun); seg.N < n; seg.N++ {
		if want.Where == snapshot.OnStore {
			want.Off += st.l.chunk
		}
		if st.at(bit, c+seg.N) != want {
			break
		}
	}
	return seg, nil
}

// at is Map for one chunk; the bit 0 is the origin's.
func (st *store) at(bit uint64, c int64) snapshot.Segment {
	seg := snapshot.Segment{N: 1}
	b := st.buckets[c/bucketChunks]
	i, j := b.find(c)
	if bit == 0 {
		seg.Writable = st.shared(b, i, j) == 0
		return seg
	}
	for ; i < j; i++ {
		if r := b.recs[i]; r.mask&bit != 0 {
			seg.Place = st.place(r.place)
			seg.Writable = r.place != hole && r.mask&st.alive == bit
		}
	}
	return seg
}

// shared returns the bits of the snapshots that lie on the origin device.
func (st *store) shared(b *bucket, i, j int) uint64 {
	mask := st.alive
	for ; i < j; i++ {
		mask &^= b.recs[i].mask
	}
	return mask
}

func (st *store) place(i int64) snapshot.Place {
	if i == hole {
		return snapshot.Place{Where: snapshot.Hole}
	}
	return snapshot.Place{Where: snapshot.OnStore, Off: st.l.data + i*st.l.chunk}
}

func (st *store) Create(_ context.Context, of snapshot.ID) (snapshot.ID, error) {
	if of != snapshot.Origin {
		return 0, fmt.Errorf("a bitmap store has no snapshots of snapshots: %w", block.ErrNotSupported)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	taken := st.alive | st.walk | st.later
	for bit := range uint8(maxSnapshots) {
		if taken>>bit&1 == 0 {
			id := st.next
			st.next++
			st.snaps = append(slices.Clip(st.snaps), snap{id, bit})
			st.alive, st.dirtyState = st.alive|1<<bit, true
			return id, nil
		}
	}
	return 0, fmt.Errorf("there are %d snapshots and %d that are being deleted, a bitmap store has at most %d: %w",
		len(st.snaps), maxSnapshots-len(st.snaps), maxSnapshots, snapshot.ErrTooMany)
}

func (st *store) Snapshots() []snapshot.ID {
	st.mu.RLock()
	defer st.mu.RUnlock()
	ids := make([]snapshot.ID, len(st.snaps))
	for i, x := range st.snaps {
		ids[i] = x.id
	}
	return ids
}

func (st *store) Put(_ context.Context, key string, value []byte) error {
	if len(key) > 64 || len(value) > snapshot.MaxValue {
		return fmt.Errorf("a value of %d bytes with a key of %d, expected at most %d and 64: %w", len(value), len(key), snapshot.MaxValue, block.ErrInvalid)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	old, had := st.values[key]
	if delete(st.values, key); value != nil {
		st.values[key] = slices.Clone(value)
		if n := len(st.encode()) + 9*(maxSnapshots-len(st.snaps)); n > stateBlocks*statePayload {
			if delete(st.values, key); had {
				st.values[key] = old
			}
			return fmt.Errorf("the values would need %d bytes, at most %d are possible: %w", n, stateBlocks*statePayload, block.ErrNoSpace)
		}
	}
	st.dirtyState = true
	return nil
}

func (st *store) Values() iter.Seq2[string, []byte] {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.All(maps.Clone(st.values))
}

func (st *store) Refresh(context.Context) (bool, error) { return false, block.ErrNotSupported }
