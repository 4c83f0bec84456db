package snapshot_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// image is a kind of store that exists here only: a map for each view, of which
// each commit writes a copy as a whole, to one of two slots. It can do all that
// a store can.
type image struct {
	cfg   snapshot.Config
	share string
	caps  snapshot.Caps

	mu    sync.RWMutex
	s     imageState
	refs  map[int64]int // by place; planned ones have 1
	limbo []int64       // freed since the last commit
	// retiring is how many places wait for readers.
	retiring int
	free     map[int64]bool
	commit   sync.Mutex
	slot     int64
	stats    snapshot.Stats
}

// imageState is what becomes durable. A chunk that is not in Views[v] lies on
// the origin device.
type imageState struct {
	Seq, Token uint64
	Chunk      int64
	Size       int64
	Next       snapshot.ID
	Views      map[snapshot.ID]map[int64]snapshot.Place
	Deleted    []snapshot.ID
	Values     map[string][]byte
}

const (
	imageMagic = "an image of it  "
	imageHead  = 4096
)

func init() {
	snapshot.Register(snapshot.Kind{
		Name: "image", Doc: "For tests.", New: newImage,
		Args:  []snapshot.Arg{{Name: "share", Default: "all", Doc: "all, runs or none: which snapshots share a copy"}},
		Match: func(head []byte) bool { return bytes.HasPrefix(head, []byte(imageMagic)) },
	})
}

func newImage(cfg snapshot.Config) (snapshot.Store, error) {
	st := &image{cfg: cfg, share: cmp.Or(cfg.Args["share"], "all")}
	if !slices.Contains([]string{"all", "runs", "none"}, st.share) {
		return nil, fmt.Errorf("share is %q, expected all, runs or none: %w", st.share, block.ErrInvalid)
	}
	st.caps = snapshot.Caps{Persistent: true, Writable: true, Redirect: true, Home: true, Clones: true, Values: true, Sums: true, Cluster: true}
	return st, nil
}

func (st *image) slotSize() int64 { return st.cfg.Device.Info().Size / 4 &^ 4095 }

func (st *image) Load(ctx context.Context) error {
	err := st.read(ctx)
	blank := errors.Is(err, snapshot.ErrNoStore)
	if st.cfg.Format == snapshot.Always || blank && st.cfg.Format == snapshot.IfBlank {
		st.s = imageState{Chunk: cmp.Or(st.cfg.Chunk, snapshot.DefaultChunk), Size: st.cfg.OriginSize, Next: 1,
			Views: map[snapshot.ID]map[int64]snapshot.Place{0: {}}, Values: map[string][]byte{}}
		st.rebuild()
		if err := st.cfg.Device.Zero(ctx, 0, 2*st.slotSize(), 0); err != nil {
			return err
		}
		err = st.Commit(ctx, 0)
	}
	if err != nil {
		return err
	}
	if st.s.Size != st.cfg.OriginSize || st.cfg.Chunk != 0 && st.cfg.Chunk != st.s.Chunk {
		return fmt.Errorf("size %d, chunk %d: %w", st.s.Size, st.s.Chunk, snapshot.ErrMismatch)
	}
	st.caps.Chunk = st.s.Chunk
	return nil
}

// read takes the newest image that is good.
func (st *image) read(ctx context.Context) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	found := false
	for i := range int64(2) {
		head := make([]byte, imageHead)
		if err := st.cfg.Device.ReadAt(ctx, head, i*st.slotSize(), 0); err != nil {
			return err
		}
		n := int64(binary.LittleEndian.Uint32(head[16:]))
		if !strings.HasPrefix(string(head), imageMagic) || n > st.slotSize()-imageHead {
			continue
		}
		p := make([]byte, (n+imageHead-1)/imageHead*imageHead)
		if err := st.cfg.Device.ReadAt(ctx, p, i*st.slotSize()+imageHead, 0); err != nil {
			return err
		}
		p = p[:n]
		if crc32.ChecksumIEEE(p) != binary.LittleEndian.Uint32(head[20:]) {
			continue
		}
		var s imageState
		if err := json.Unmarshal(p, &s); err != nil {
			return err
		}
		if !found || s.Seq > st.s.Seq {
			st.s, st.slot, found = s, i, true
		}
	}
	if !found {
		return snapshot.ErrNoStore
	}
	st.rebuild()
	return nil
}

// rebuild makes the free places.
func (st *image) rebuild() {
	st.refs, st.free, st.limbo = map[int64]int{}, map[int64]bool{}, nil
	for _, m := range st.s.Views {
		for _, p := range m {
			if p.Where == snapshot.OnStore {
				st.refs[p.Off]++
			}
		}
	}
	for off := 2 * st.slotSize(); off+st.s.Chunk <= st.cfg.Device.Info().Size; off += st.s.Chunk {
		if st.refs[off] == 0 {
			st.free[off] = true
		}
	}
}

func (st *image) Close(ctx context.Context) error { return nil }
func (st *image) Caps() snapshot.Caps             { return st.caps }

func (st *image) place(v snapshot.ID, c int64) snapshot.Place {
	return st.s.Views[v][c]
}

func (st *image) exists(v snapshot.ID) error {
	if st.s.Views[v] == nil || slices.Contains(st.s.Deleted, v) {
		return fmt.Errorf("%d: %w", v, snapshot.ErrNoSnapshot)
	}
	return nil
}

// users returns the other views with the same place as v.
func (st *image) users(v snapshot.ID, c int64) (n int) {
	for id := range st.s.Views {
		if id != v && st.place(id, c) == st.place(v, c) && !slices.Contains(st.s.Deleted, id) {
			n++
		}
	}
	return n
}

func (st *image) Map(ctx context.Context, v snapshot.ID, c, n int64, flags block.Flags) (snapshot.Segment, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if err := st.exists(v); err != nil {
		return snapshot.Segment{}, err
	}
	first := st.segment(v, c)
	for first.N < min(n, 8) {
		next := st.segment(v, c+first.N)
		want := first.Place
		if want.Where == snapshot.OnStore {
			want.Off += first.N * st.s.Chunk
		}
		if next.Place != want || next.Writable != first.Writable {
			break
		}
		first.N++
	}
	return first, nil
}

func (st *image) segment(v snapshot.ID, c int64) snapshot.Segment {
	p := st.place(v, c)
	writable := st.users(v, c) == 0 && p.Where != snapshot.Hole && (p.Where == snapshot.OnStore || v == 0)
	return snapshot.Segment{Place: p, N: 1, Writable: writable}
}

// alloc returns n adjacent places, or fewer.
func (st *image) alloc(n int64) (int64, int64, error) {
	for off := range st.free {
		k := int64(1)
		for k < n && st.free[off+k*st.s.Chunk] {
			k++
		}
		for i := range k {
			delete(st.free, off+i*st.s.Chunk)
		}
		return off, k, nil
	}
	return 0, 0, fmt.Errorf("all chunks in use: %w", block.ErrNoSpace)
}

// targets are the views that get a copy, by copy.
type targets [][]snapshot.ID

func (st *image) Plan(ctx context.Context, r snapshot.Request) (*snapshot.Plan, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(r.View); err != nil {
		return nil, err
	}
	p := &snapshot.Plan{Request: r, Old: st.place(r.View, r.Chunk), OldShared: st.users(r.View, r.Chunk) > 0}
	p.N = 1
	var err error
	switch r.Op {
	case snapshot.Write:
		p.Target, p.N, err = st.alloc(r.N)
		for i := int64(1); i < p.N; i++ {
			p.OldShared = p.OldShared || st.users(r.View, r.Chunk+i) > 0
		}
	case snapshot.Detach:
		groups := st.groups(r.Chunk)
		if p.More = len(groups) > snapshot.MaxDests; p.More {
			groups = groups[:snapshot.MaxDests]
		}
		p.Private = groups
		var to []int64
		for range groups {
			off, _, e := st.alloc(1)
			if e != nil {
				for _, off := range to {
					st.free[off] = true
				}
				return nil, e
			}
			to = append(to, off)
		}
		if len(to) > 0 {
			p.Copies = []snapshot.Copy{{From: snapshot.Place{Where: snapshot.OnOrigin}, To: to}}
		}
	}
	return p, err
}

// groups returns the snapshots on the origin device, in groups that may share a
// copy.
func (st *image) groups(c int64) (all targets) {
	last := false
	for _, id := range st.live() {
		on := st.place(id, c).Where == snapshot.OnOrigin
		switch {
		case !on:
		case len(all) == 0, st.share == "none", st.share == "runs" && !last:
			all = append(all, []snapshot.ID{id})
		default:
			all[len(all)-1] = append(all[len(all)-1], id)
		}
		last = on
	}
	return all
}

func (st *image) live() (ids []snapshot.ID) {
	for _, id := range slices.Sorted(maps.Keys(st.s.Views)) {
		if id != 0 && !slices.Contains(st.s.Deleted, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// set gives a chunk a place and frees the one it had.
func (st *image) set(v snapshot.ID, c int64, p snapshot.Place) {
	old := st.place(v, c)
	if p.Where == snapshot.OnStore {
		st.refs[p.Off]++
	}
	if p.Where == snapshot.OnOrigin {
		delete(st.s.Views[v], c)
	} else {
		st.s.Views[v][c] = p
	}
	st.drop(old)
}

func (st *image) drop(p snapshot.Place) {
	if p.Where != snapshot.OnStore {
		return
	}
	if st.refs[p.Off]--; st.refs[p.Off] == 0 {
		delete(st.refs, p.Off)
		st.limbo = append(st.limbo, p.Off)
	}
}

// verify reports whether a place has what the engine says it has written.
func (st *image) verify(ctx context.Context, off int64, sums []uint32, n int64) error {
	if int64(len(sums)) != n {
		return fmt.Errorf("%d checksums for %d chunks", len(sums), n)
	}
	p := make([]byte, n*st.s.Chunk)
	if err := st.cfg.Device.ReadAt(ctx, p, off, 0); err != nil {
		return err
	}
	for i, want := range sums {
		if got := crc32.Checksum(p[int64(i)*st.s.Chunk:][:st.s.Chunk], crc32.MakeTable(crc32.Castagnoli)); got != want {
			return fmt.Errorf("the checksum of chunk %d is %x, the engine says %x", i, got, want)
		}
	}
	return nil
}

func (st *image) Apply(ctx context.Context, p *snapshot.Plan) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch p.Op {
	case snapshot.Write:
		if err := st.verify(ctx, p.Target, p.Sums, p.N); err != nil {
			return err
		}
		for i := range p.N {
			st.set(p.View, p.Chunk+i, snapshot.Place{Where: snapshot.OnStore, Off: p.Target + i*st.s.Chunk})
		}
	case snapshot.Clear:
		st.set(p.View, p.Chunk, snapshot.Place{Where: snapshot.Hole})
	case snapshot.Detach:
		for i, to := range p.Copies[0].To {
			if err := st.verify(ctx, to, p.Copies[0].Sums, 1); err != nil {
				return err
			}
			for _, id := range p.Private.(targets)[i] {
				if st.s.Views[id] != nil {
					st.set(id, p.Chunk, snapshot.Place{Where: snapshot.OnStore, Off: to})
				}
			}
		}
	}
	return nil
}

func (st *image) Abandon(p *snapshot.Plan) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if p.Op == snapshot.Write && !p.More {
		for i := range p.N {
			st.free[p.Target+i*st.s.Chunk] = true
		}
	}
	for _, c := range p.Copies {
		for _, to := range c.To {
			st.free[to] = true
		}
	}
}

func (st *image) Home(ctx context.Context, v snapshot.ID, c, n int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for ; n > 0; c, n = c+1, n-1 {
		was := st.place(v, c)
		for id := range st.s.Views {
			if id == 0 || id == v || st.place(id, c) == was {
				st.set(id, c, snapshot.Place{})
			}
		}
	}
	return nil
}

func (st *image) Create(ctx context.Context, of snapshot.ID) (snapshot.ID, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.exists(of); err != nil {
		return 0, err
	}
	id := st.s.Next
	st.s.Next++
	st.s.Views[id] = maps.Clone(st.s.Views[of])
	for _, p := range st.s.Views[of] {
		if p.Where == snapshot.OnStore {
			st.refs[p.Off]++
		}
	}
	return id, nil
}

func (st *image) Delete(ctx context.Context, ids []snapshot.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range ids {
		if err := st.exists(id); err != nil {
			return err
		}
	}
	st.s.Deleted = append(st.s.Deleted, ids...)
	return nil
}

func (st *image) Snapshots() []snapshot.ID {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.live()
}

func (st *image) Step(ctx context.Context, budget int) (p snapshot.Progress, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	budget = min(budget, 8) // so that there are steps
	for ; budget > 0 && len(st.s.Deleted) > 0; budget-- {
		v := st.s.Deleted[0]
		p.Done++
		st.stats.Visits++
		c := int64(math.MaxInt64)
		for k := range st.s.Views[v] {
			c = min(c, k)
		}
		if c == math.MaxInt64 {
			delete(st.s.Views, v)
			st.s.Deleted = st.s.Deleted[1:]
			continue
		}
		st.set(v, c, snapshot.Place{})
	}
	p.More = len(st.s.Deleted) > 0
	return p, nil
}

func (st *image) Put(ctx context.Context, key string, value []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(value) > snapshot.MaxValue {
		return fmt.Errorf("value of %d bytes", len(value))
	}
	if delete(st.s.Values, key); value != nil {
		st.s.Values[key] = bytes.Clone(value)
	}
	return nil
}

func (st *image) Values() iter.Seq2[string, []byte] {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.All(maps.Clone(st.s.Values))
}

func (st *image) Commit(ctx context.Context, token uint64) error {
	st.commit.Lock()
	defer st.commit.Unlock()
	st.mu.Lock()
	st.s.Seq++
	st.s.Token = max(token, st.s.Token)
	p, err := json.Marshal(&st.s)
	freed := st.limbo
	st.limbo = nil
	st.retiring += len(freed)
	st.stats.Commits++
	st.mu.Unlock()
	if err == nil {
		err = st.write(ctx, p)
	}
	if err != nil {
		st.mu.Lock()
		st.limbo = append(st.limbo, freed...)
		st.retiring -= len(freed)
		st.mu.Unlock()
		return err
	}
	st.slot = 1 - st.slot
	st.cfg.Retire(func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.retiring -= len(freed)
		for _, off := range freed {
			st.free[off] = true
		}
	})
	return nil
}

// write makes the data durable, and then the image.
func (st *image) write(ctx context.Context, p []byte) error {
	if int64(len(p)) > st.slotSize()-imageHead {
		return fmt.Errorf("an image of %d bytes: %w", len(p), block.ErrNoSpace)
	}
	q := make([]byte, imageHead, imageHead+len(p))
	copy(q, imageMagic)
	binary.LittleEndian.PutUint32(q[16:], uint32(len(p)))
	binary.LittleEndian.PutUint32(q[20:], crc32.ChecksumIEEE(p))
	q = append(q, p...)
	q = append(q, make([]byte, (imageHead-len(q)%imageHead)%imageHead)...)
	d := st.cfg.Device
	if err := d.Flush(ctx); err != nil {
		return err
	}
	if err := d.WriteAt(ctx, q, (1-st.slot)*st.slotSize(), 0); err != nil {
		return err
	}
	return d.Flush(ctx)
}

func (st *image) Refresh(ctx context.Context) (bool, error) { return true, st.read(ctx) }

func (st *image) Stats() snapshot.Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	s := st.stats
	s.Free = int64(len(st.free)) * st.s.Chunk
	s.Pending = int64(len(st.limbo)+st.retiring) * st.s.Chunk
	s.Data = int64(len(st.refs)) * st.s.Chunk
	s.Size = st.cfg.Device.Info().Size - 2*st.slotSize()
	s.Exceptions = int64(len(st.refs))
	return s
}

func (st *image) Usage(ctx context.Context, ids []snapshot.ID) ([]snapshot.Usage, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	var all []snapshot.Usage
	for _, id := range ids {
		if err := st.exists(id); err != nil {
			return nil, err
		}
		var u snapshot.Usage
		for _, p := range st.s.Views[id] {
			switch {
			case p.Where != snapshot.OnStore:
			case st.refs[p.Off] == 1:
				u.Exclusive += st.s.Chunk
			default:
				u.Shared += st.s.Chunk
			}
		}
		all = append(all, u)
	}
	return all, nil
}

// Check compares what is in use with what is not.
func (st *image) Check(ctx context.Context, report func(error)) error {
	st.mu.RLock()
	defer st.mu.RUnlock()
	used := map[int64]int{}
	at := map[int64]int64{}
	for id, m := range st.s.Views {
		for c, p := range m {
			if p.Where != snapshot.OnStore {
				continue
			}
			if used[p.Off] > 0 && at[p.Off] != c {
				report(fmt.Errorf("view %d: chunks %d and %d both lie at %d", id, c, at[p.Off], p.Off))
			}
			used[p.Off]++
			at[p.Off] = c
			if st.free[p.Off] {
				report(fmt.Errorf("view %d, chunk %d: %d is free", id, c, p.Off))
			}
		}
	}
	if !maps.Equal(used, st.refs) {
		report(fmt.Errorf("places are counted %v, in use %v", st.refs, used))
	}
	return nil
}
