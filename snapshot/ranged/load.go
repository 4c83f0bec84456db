package ranged

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func (st *store) Load(ctx context.Context) error {
	st.turn.Lock()
	defer st.turn.Unlock()
	var nonce [8]byte
	rand.Read(nonce[:])
	st.mount = le.Uint64(nonce[:])
	blank, err := st.readSuper(ctx)
	if st.cfg.Format == snapshot.Always || blank && st.cfg.Format == snapshot.IfBlank {
		if st.cfg.ReadOnly {
			return fmt.Errorf("a store cannot be formatted: %w", block.ErrReadOnly)
		}
		if err := st.format(ctx); err != nil {
			return fmt.Errorf("formatting: %w", err)
		}
	} else if err != nil {
		return err
	}
	if st.geo.origin != st.cfg.OriginSize || st.cfg.Chunk != 0 && st.cfg.Chunk != st.geo.chunk {
		return fmt.Errorf("the store is for an origin of %d bytes and has chunks of %d, expected %d and %d: %w",
			st.geo.origin, st.geo.chunk, st.cfg.OriginSize, cmp.Or(st.cfg.Chunk, st.geo.chunk), snapshot.ErrMismatch)
	}
	st.caps.Chunk = st.geo.chunk
	if !st.cfg.ReadOnly {
		// What is read from here on is durable.
		if err := st.cfg.Device.Flush(ctx); err != nil {
			return err
		}
	}
	return st.reload(ctx)
}

// readSuper finds the superblock or its copy. blank: the beginning of the
// device is zeros.
func (st *store) readSuper(ctx context.Context) (blank bool, err error) {
	dev := st.cfg.Device
	size := dev.Info().Size
	headSize := min(size, 64<<10) &^ (blockSize - 1)
	b := make([]byte, headSize)
	if err := dev.ReadAt(ctx, b, 0, 0); err != nil {
		return false, err
	}
	if st.geo, err = parseSuper(b, size); err == nil {
		return false, nil
	}
	blank = block.IsZero(b)
	if errors.Is(err, snapshot.ErrDamaged) {
		tail := make([]byte, blockSize)
		if e := dev.ReadAt(ctx, tail, size&^(blockSize-1)-blockSize, 0); e != nil {
			return false, e
		}
		if g, e := parseSuper(tail, size); e == nil {
			st.geo, err = g, nil
		}
	}
	return blank, err
}

// format writes a store without snapshots. The superblock comes last.
func (st *store) format(ctx context.Context) error {
	dev := st.cfg.Device
	var uuid [16]byte
	rand.Read(uuid[:])
	g, err := newGeometry(uuid, dev.Info().Size, st.cfg.OriginSize, cmp.Or(st.cfg.Chunk, snapshot.DefaultChunk))
	if err != nil {
		return err
	}
	st.geo = g
	st.state, st.journal = newState(&st.geo, st.newCache()), journal{}
	log, _ := st.space.segment(segLog)
	st.logs, st.log = []int{log}, g.start(log)
	if err := (write{ringStart, make([]byte, ringSlots*blockSize)}).do(ctx, dev); err != nil {
		return err
	}
	d := st.freeze()
	for done := false; !done; {
		if done, err = st.build(ctx, d, buildAtOnce); err != nil {
			return err
		}
	}
	if err := st.install(ctx, 0); err != nil {
		return err
	}
	super := g.superblock()
	if err := dev.WriteAt(ctx, super, g.size-blockSize, 0); err != nil {
		return err
	}
	if err := dev.WriteAt(ctx, super, 0, 0); err != nil {
		return err
	}
	return dev.Flush(ctx)
}

func (st *store) newCache() *cache {
	return &cache{geo: &st.geo, dev: st.cfg.Device, limit: st.memory / 2}
}

func (st *store) recovery(c *cache) *recovery {
	return &recovery{geo: &st.geo, dev: st.cfg.Device, cache: c}
}

// reload reads the newest checkpoint and the log.
func (st *store) reload(ctx context.Context) error {
	r := st.recovery(st.newCache())
	if err := r.load(ctx); err != nil {
		return err
	}
	if !st.cfg.ReadOnly {
		if err := r.mend(ctx); err != nil {
			return err
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state, st.journal = r.state, r.journal
	st.staged, st.data, st.planned, st.draft, st.stale = writer{}, false, 0, nil, false
	st.sweep, st.lost, st.gone, st.links = sweep{}, loss{}, nil, nil
	return nil
}

// Refresh reads on where this store has come to in the log; or from the newest
// checkpoint, if there is another one, as what came before it may be gone.
func (st *store) Refresh(ctx context.Context) (listed bool, err error) {
	st.making.Lock()
	defer st.making.Unlock()
	st.turn.Lock()
	defer st.turn.Unlock()
	st.giveUp()
	for !st.clear(clearAtOnce) {
	}
	b := make([]byte, blockSize)
	for _, off := range []int64{ringSlot(st.gen + 1), ringCopy(st.gen + 1)} {
		if err := st.cfg.Device.ReadAt(ctx, b, off, 0); err != nil {
			return false, err
		}
		if c, ok := st.geo.parseCheckpoint(b, int((st.gen+1)%ringTurns)); ok && c.gen > st.gen {
			st.stale = true
		}
	}
	if st.stale || st.draft != nil {
		return true, st.reload(ctx)
	}
	before := st.listed
	r := st.recovery(st.chunks.cache)
	r.state, r.journal, r.lock, r.retire, r.near = st.state, st.journal, &st.mu, st.retire, true
	if err = r.follow(ctx); err == nil {
		err = r.mend(ctx)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.journal, st.stale = r.journal, err != nil
	return st.listed != before, err
}
