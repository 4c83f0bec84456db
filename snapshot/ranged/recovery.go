package ranged

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A recovery reads what is on a device.
type recovery struct {
	geo   *geometry
	dev   block.Device
	cache *cache
	*state
	journal
	// near: look for proofs close to the end of the log only.
	near bool
	// torn: the log has a frame of a commit whose data are not there.
	torn bool
	// ring is the checkpoint if one of the two places has not got it.
	ring []byte
	// If the state is in use, lock protects it, and retire is told what was
	// freed.
	lock   sync.Locker
	retire func(slots []int64)
}

// load reads the newest checkpoint and the log.
func (r *recovery) load(ctx context.Context) error {
	c, err := r.newest(ctx)
	if err != nil {
		return err
	}
	image, blocks, err := readImage(ctx, r.geo, c, func(ctx context.Context, b []byte, addr int64) error { return r.dev.ReadAt(ctx, b, addr, 0) })
	if err != nil {
		return err
	}
	if r.state, err = parseImage(r.geo, r.cache, image); err != nil {
		return err
	}
	r.journal = journal{log: c.log, ahead: c.ahead, prev: c.prev, gen: c.gen, images: blocks, durable: c.seq, mark: c.seq, sums: c.seq, token: c.token}
	r.seq, r.state.trees.seq = c.seq, c.seq
	for _, addr := range []int64{c.log, c.ahead} {
		if addr != 0 {
			if err := r.enter(addr); err != nil {
				return err
			}
		}
	}
	return r.follow(ctx)
}

// follow carries out the commits that come next in the log.
func (r *recovery) follow(ctx context.Context) error {
	for {
		if more, err := r.one(ctx); err != nil || !more {
			return err
		}
	}
}

// mend writes what a crash has left undone: a checkpoint has two copies, and a
// commit at the end of the log whose data did not arrive is none. It is wiped
// out, lest it become one when the same data are written again.
func (r *recovery) mend(ctx context.Context) error {
	if r.torn {
		if err := r.dev.WriteAt(ctx, make([]byte, blockSize), r.log, 0); err != nil {
			return err
		}
		if err := r.dev.Flush(ctx); err != nil {
			return err
		}
	}
	if len(r.ring) == 0 {
		return nil
	}
	if err := r.dev.WriteAt(ctx, r.ring, ringCopy(r.gen), 0); err != nil {
		return err
	}
	return r.dev.WriteAt(ctx, r.ring, ringSlot(r.gen), 0)
}

// newest finds the newest checkpoint in the ring.
func (r *recovery) newest(ctx context.Context) (best checkpoint, err error) {
	b := make([]byte, ringSlots*blockSize)
	if err := (write{ringStart, b}).undo(ctx, r.dev); err != nil {
		return best, err
	}
	slot := func(i uint64) []byte { return b[i*blockSize:][:blockSize] }
	for i := range uint64(ringSlots) {
		if c, ok := r.geo.parseCheckpoint(slot(i), int(i)); ok && c.gen > best.gen {
			best = c
		}
	}
	if best.gen == 0 {
		return best, fmt.Errorf("there is no checkpoint: %w", snapshot.ErrDamaged)
	}
	// The copy is written when the first is durable: a crash cannot ruin both.
	i := (best.gen + 1) % ringTurns
	if r.ruined(slot(i), i) && r.ruined(slot(i+ringTurns), i) {
		return best, fmt.Errorf("neither copy of checkpoint %d is what was written: %w", best.gen+1, snapshot.ErrDamaged)
	}
	i = best.gen % ringTurns
	if x, y := slot(i), slot(i+ringTurns); !bytes.Equal(x, y) {
		if r.ring = x; le.Uint64(x[32:]) != best.gen || r.ruined(x, i) {
			r.ring = y
		}
	}
	return best, nil
}

// ruined reports whether there is something in the ring that is no checkpoint.
func (r *recovery) ruined(b []byte, i uint64) bool {
	_, ok := r.geo.parseCheckpoint(b, int(i))
	return !ok && !block.IsZero(b)
}

// enter makes a segment one of the log.
func (r *recovery) enter(addr int64) error {
	seg := r.geo.segmentOf(addr)
	r.space.abandon(seg)
	if r.space.segs[seg].kind != segFree {
		return fmt.Errorf("the log goes on in segment %d, which is in use: %w", seg, snapshot.ErrDamaged)
	}
	r.space.turn(seg, segLog)
	r.logs = append(r.logs, seg)
	return nil
}

// A commit is one that was read.
type commit struct {
	frame // the last
	// addr, ahead and prev are where the log goes on.
	addr, ahead int64
	prev        uint32
	payload     []byte
	// segs are the segments that the log has entered.
	segs []int64
}

// one carries out a commit, if there is one.
func (r *recovery) one(ctx context.Context) (more bool, err error) {
	c, ok, err := r.read(ctx)
	if err != nil || !ok {
		return false, err
	}
	data := false
	for x, err := range r.decode(c.payload) {
		if err != nil {
			return false, fmt.Errorf("commit %d: %w", c.seq, err)
		}
		data = data || len(x.sums) > 0
	}
	if data {
		if r.torn, err = r.lost(ctx, c); err != nil || r.torn {
			return false, err
		}
	}
	freed, err := r.redoAll(ctx, c)
	if err != nil {
		return false, fmt.Errorf("commit %d: %w", c.seq, err)
	}
	if len(freed) > 0 && r.retire != nil {
		r.retire(freed)
	}
	return true, nil
}

// read reads the frames of the next commit.
func (r *recovery) read(ctx context.Context) (c commit, ok bool, err error) {
	c = commit{addr: r.log, ahead: r.ahead, prev: r.prev}
	limit := uint32(min(r.geo.segments*r.geo.segment/blockSize, 1<<31))
	for i := uint32(0); i == 0 || !c.last; i++ {
		b := make([]byte, blockSize)
		if err := r.dev.ReadAt(ctx, b, c.addr, 0); err != nil {
			return c, false, err
		}
		f, ok := r.geo.parseFrame(b, logMagic, c.addr)
		if !ok || f.prev != c.prev || f.seq != r.seq+1 || f.index != i || c.ahead != 0 && f.next != c.ahead || i > limit {
			return c, false, r.ends(ctx, c.addr, c.ahead)
		}
		c.frame = f
		c.payload = append(c.payload, f.data...)
		if c.ahead == 0 {
			c.ahead = f.next
			c.segs = append(c.segs, c.ahead)
		}
		last := r.geo.lastBlock(c.addr)
		c.addr, c.prev = r.geo.follow(c.addr, c.ahead), f.sum
		if last {
			c.ahead = 0
		}
	}
	return c, true, nil
}

// decode returns the records of a commit, each of which is good until the next one.
// There may be many, so they are decoded again rather than kept.
func (r *recovery) decode(p []byte) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		var x record
		for in := (&reader{b: p}); len(in.b) > 0; {
			if x = in.record(r.geo); !yield(&x, in.bad) || in.bad != nil {
				return
			}
		}
	}
}

// verify returns the checksums of the places that are in use after a commit.
// What it gave away and freed again may hold anything.
func (r *recovery) verify(p []byte) map[int64]uint32 {
	sums := map[int64]uint32{}
	for x := range r.decode(p) {
		for slot := x.fall.slot; x.op == opDrop && slot >= 0 && slot < x.fall.slot+x.fall.n; slot++ {
			delete(sums, slot)
		}
		j := 0
		slots := newSlots(nil, x.list)
		for i := range x.n {
			for _, slot := range slots {
				sums[slot+i] = x.sums[j]
				j++
			}
			for _, slot := range x.freed {
				delete(sums, slot+i)
			}
		}
	}
	return sums
}

// lost reports whether data of a commit have not arrived. Those that a later one
// knows to be durable need not be looked at, and must not be: their places may
// have been written in place since.
func (r *recovery) lost(ctx context.Context, c commit) (bool, error) {
	b := make([]byte, blockSize)
	if err := r.dev.ReadAt(ctx, b, c.addr, 0); err != nil {
		return false, err
	}
	if n, ok := r.geo.parseFrame(b, logMagic, c.addr); ok && n.prev == c.prev && n.seq == c.seq+1 && n.mark >= c.seq {
		return false, nil
	}
	if x, err := r.newestProof(ctx, c.addr, c.ahead); err != nil || x.mark >= c.seq {
		return false, err
	}
	p := make([]byte, r.geo.chunk)
	for slot, want := range r.verify(c.payload) {
		if err := r.dev.ReadAt(ctx, p, r.geo.off(slot), 0); err != nil {
			return false, err
		}
		if crc32.Checksum(p, castagnoli) != want {
			return true, nil
		}
	}
	return false, nil
}

// redoAll carries out the records of a commit and returns the places that it
// freed and that must not be used yet.
func (r *recovery) redoAll(ctx context.Context, c commit) (freed []int64, err error) {
	for x := range r.decode(c.payload) {
		if err := r.redoOne(ctx, x); err != nil {
			return nil, err
		}
	}
	if r.lock != nil {
		r.lock.Lock()
		defer r.lock.Unlock()
	}
	freed, r.space.freed = r.space.freed, nil
	if r.retire == nil {
		r.space.releaseAll(freed)
	} else {
		r.space.waiting += int64(len(freed))
	}
	for _, x := range c.segs {
		if err := r.enter(x); err != nil {
			return nil, err
		}
	}
	r.seq = c.seq
	r.log, r.ahead, r.prev, r.token = c.addr, c.ahead, c.prev, max(r.token, c.token)
	r.blocks += int64(c.index) + 1
	r.durable, r.mark = c.seq, c.mark
	if len(c.payload) > 0 {
		r.sums = c.seq
	}
	return freed, nil
}

// redoOne carries out a record, and reads the bits that it needs.
func (r *recovery) redoOne(ctx context.Context, x *record) error {
	for {
		if r.lock != nil {
			r.lock.Lock()
		}
		err := r.cold(x)
		if err == nil {
			err = r.redo(x)
		}
		if r.lock != nil {
			r.lock.Unlock()
		}
		if err == nil {
			return nil
		}
		var seg coldError
		if !errors.As(err, &seg) {
			return err
		}
		s := &r.space.segs[seg]
		words, err := r.geo.readBitmap(ctx, r.dev, int(seg), s.addr, s.used)
		if err != nil {
			return err
		}
		s.bits = words
	}
}
