package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/barrier"
	"github.com/strata-storage/strata/internal/known"
	"github.com/strata-storage/strata/internal/rangelock"
)

// A Set is an origin with its snapshots. All methods may be called from any
// goroutine at any time.
type Set struct {
	o            Options
	origin, dev  block.Device
	bare         block.Device // the origin as it was given to New
	store        Store
	caps         Caps
	size, chunks int64
	shift        int
	mask         int64
	info         block.Info
	loaded       bool
	suspended    atomic.Bool
	pins         pins
	// unshared are chunks of the origin that lie on the origin device and on
	// which no snapshot lies: writes to them need nothing else.
	unshared      *known.Set
	locks         [lockShards]rangelock.Lock
	shards        [seqShards]shard
	toStore       barrier.Barrier
	toOrigin      barrier.Barrier
	copies        chan struct{}
	buffers       sync.Pool
	reads, writes gate
	// deleted is the number of the change of the store that deleted
	// snapshots last.
	deleted atomic.Uint64

	// control is held by those who change snapshots, or suspend and resume.
	control sync.Mutex
	names   names
	// merging is the rollback under way, or nil.
	merging atomic.Pointer[rollback]
	party   party
	home    homecoming
	worker  worker
	sealer  sealer
	low     atomic.Bool
	// unready is how many writes do not try to be redirected at once.
	unready atomic.Int32
	counts  counts
}

const (
	seqShards = 256
	// extent is the range in bytes that has a lock and a shard of its own,
	// unless chunks are larger.
	extent = 1 << 20
)

// A shard is about the chunks of some extents.
type shard struct {
	// overwrites counts when chunks of the origin device that snapshots once
	// shared began to be overwritten.
	overwrites atomic.Uint64
	// left is the number of the last change of the store by which views left
	// places that are not theirs alone.
	left atomic.Uint64
	_    [48]byte
}

// New makes a Set of an origin and the device of a store, both of which it
// owns, and the lock. It does no input or output: Resume does. When it fails the caller
// still owns the devices.
func New(origin, store block.Device, o Options) (*Set, error) {
	kind, err := kindOf(o.Kind)
	if err != nil {
		return nil, err
	}
	if o, err = o.validate(origin.Info(), store.Info()); err != nil {
		return nil, err
	}
	s := &Set{o: o, size: origin.Info().Size, bare: origin}
	s.origin, s.dev = s.fenced(origin), s.fenced(store)
	s.store, err = kind.New(Config{
		Device: block.Keep(s.dev), OriginSize: s.size, Chunk: o.Chunk, Format: o.Format,
		ReadOnly: o.ReadOnly, Args: o.Args, Retire: s.pins.retire,
	})
	if err != nil {
		return nil, err
	}
	s.toStore.Init(func(ctx context.Context) error {
		token, err := s.party.token()
		if err != nil {
			return err
		}
		return s.store.Commit(ctx, token)
	})
	s.toOrigin.Init(s.origin.Flush)
	s.copies = make(chan struct{}, o.Copies)
	s.worker.init()
	s.sealer.share.Rest = sealRest
	a, b := origin.Info(), store.Info()
	s.info = block.Info{
		Size: s.size, MinBlock: max(a.MinBlock, b.MinBlock), Rotational: a.Rotational || b.Rotational,
		ReadOnly: o.ReadOnly || a.ReadOnly, CheapExtents: a.CheapExtents, NoWait: a.NoWait || b.NoWait,
	}
	s.info.Trims = !s.info.ReadOnly
	s.info.PreferredBlock = max(a.PreferredBlock, b.PreferredBlock, 4096)
	s.reads.stop()
	s.writes.stop()
	s.join(o.Lock)
	return s, nil
}

// Resume reads the store, the first time, and lets requests and background
// work go on. Views can be opened when it has returned.
func (s *Set) Resume(ctx context.Context) error {
	s.control.Lock()
	defer s.control.Unlock()
	if s.closed() {
		return block.ErrClosed
	}
	err := s.shared(ctx, func() error {
		if s.loaded {
			return s.remark(ctx, true)
		}
		return s.load(ctx)
	})
	if err != nil {
		return err
	}
	for _, g := range []*gate{&s.reads, &s.writes} {
		g.hold()
		g.open()
		g.release()
	}
	s.suspended.Store(false)
	s.worker.start(s)
	return nil
}

func (s *Set) load(ctx context.Context) error {
	exists, err := s.expectStore(ctx)
	if err != nil {
		return err
	}
	if err := s.store.Load(ctx); err != nil {
		return s.explain(ctx, err)
	}
	s.caps = s.store.Caps()
	if s.party.lazy != nil && !s.caps.Cluster {
		return fmt.Errorf("this kind of store cannot be shared under a lock: %w", block.ErrNotSupported)
	}
	c := s.caps.Chunk
	if c < MinChunk || c > MaxChunk || c&(c-1) != 0 || c < int64(s.info.MinBlock) {
		return fmt.Errorf("the store has chunks of %d bytes, which the devices do not allow: %w", c, ErrMismatch)
	}
	s.shift, s.mask = bits.TrailingZeros64(uint64(c)), c-1
	s.chunks = (s.size + s.mask) >> s.shift
	s.unshared = known.New(s.chunks)
	s.buffers.New = func() any { p := make([]byte, s.caps.Chunk); return &p }
	if err := s.loadNames(ctx); err != nil {
		return err
	}
	if err := s.loadRollback(); err != nil {
		return err
	}
	if err := s.remark(ctx, s.o.Format != Always); err != nil {
		return err
	}
	if !exists && s.caps.Persistent {
		s.notify(Event{Kind: Formatted})
	}
	s.home.wake()
	s.loaded = true
	return nil
}

// Suspend ends background work within one step, waits for the requests inside,
// and makes everything durable. Requests wait from then on until Resume;
// changes of snapshots are refused with ErrBusy.
func (s *Set) Suspend(ctx context.Context) error {
	s.control.Lock()
	defer s.control.Unlock()
	if s.closed() {
		return block.ErrClosed
	}
	s.worker.stop()
	s.suspended.Store(true)
	for _, g := range []*gate{&s.writes, &s.reads} {
		g.hold()
		g.stop()
		g.release()
	}
	if !s.loaded || s.o.ReadOnly {
		return nil
	}
	return s.shared(ctx, func() error { return s.sync(ctx) })
}

// Close makes everything durable and releases the devices.
func (s *Set) Close() error {
	s.worker.stop()
	s.control.Lock()
	defer s.control.Unlock()
	s.worker.stop()
	for _, g := range []*gate{&s.writes, &s.reads} {
		g.hold()
		if g.closed {
			g.release()
			return block.ErrClosed
		}
		g.closed = true
		g.open()
		g.release()
	}
	err := s.shared(context.Background(), s.unload)
	if s.party.lazy != nil {
		err = errors.Join(err, s.party.lazy.Close())
	}
	return errors.Join(err, s.dev.Close(), s.origin.Close())
}

func (s *Set) unload() error {
	ctx := context.Background()
	var err error
	if s.loaded && !s.o.ReadOnly {
		err = s.sync(ctx)
	}
	s.loaded = false
	return errors.Join(err, s.store.Close(ctx))
}

func (s *Set) closed() bool {
	s.reads.mu.RLock()
	defer s.reads.mu.RUnlock()
	return s.reads.closed
}

// sync makes everything durable, with one barrier on each device that needs
// one.
func (s *Set) sync(ctx context.Context) error {
	switch {
	case s.toStore.Clean():
		return s.toOrigin.Wait(ctx)
	case s.toOrigin.Clean():
		return s.toStore.Wait(ctx)
	}
	first := make(chan error, 1)
	go func() { first <- s.toOrigin.Wait(ctx) }()
	err := s.toStore.Wait(ctx)
	return errors.Join(<-first, err)
}

// shard returns the shard of a chunk.
func (s *Set) shard(c int64) *shard {
	return &s.shards[uint64(c)<<s.shift/extent%seqShards]
}

// span returns the chunks that n bytes at off touch: from the first up to but
// not including end. n is not 0.
func (s *Set) span(off, n int64) (first, end int64) {
	return off >> s.shift, (off+n-1)>>s.shift + 1
}

// notify tells the user.
func (s *Set) notify(e Event) {
	if s.o.Notify != nil {
		s.o.Notify(e)
	}
}

// Size is that of the origin and of every snapshot, in bytes.
func (s *Set) Size() int64 { return s.size }
