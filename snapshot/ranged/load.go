package ranged

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"

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

func (st *store) format(ctx context.Context) error {
	dev := st.cfg.Device
	var uuid [16]byte
	rand.Read(uuid[:])
	g, err := newGeometry(uuid, dev.Info().Size, st.cfg.OriginSize, cmp.Or(st.cfg.Chunk, snapshot.DefaultChunk))
	if err != nil {
		return err
	}
	st.geo = g
	st.state, st.journal = newState(&st.geo), journal{}
	log, _ := st.space.segment(segLog)
	st.logs, st.log = []int{log}, g.start(log)
	b := &batch{seq: 1}
	if err := st.makeCheckpoint(b); err != nil {
		return err
	}
	st.pending = b
	ring := write{ringStart, make([]byte, ringSlots*blockSize)}
	if err := ring.do(ctx, dev); err != nil {
		return err
	}
	if err := st.finish(ctx); err != nil {
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

// reload reads the newest checkpoint and the log. A commit at the end of the
// log whose data did not arrive is no commit: it is wiped out, lest it become
// one when the same data are written again.
func (st *store) reload(ctx context.Context) error {
	r := &recovery{geo: &st.geo, dev: st.cfg.Device}
	if err := r.load(ctx); err != nil {
		return err
	}
	if r.torn && !st.cfg.ReadOnly {
		if err := st.cfg.Device.WriteAt(ctx, make([]byte, blockSize), r.log, 0); err != nil {
			return err
		}
		if err := st.cfg.Device.Flush(ctx); err != nil {
			return err
		}
	}
	if len(r.mend) > 0 && !st.cfg.ReadOnly {
		if err := st.cfg.Device.WriteAt(ctx, r.mend, ringCopy(r.gen), 0); err != nil {
			return err
		}
		if err := st.cfg.Device.WriteAt(ctx, r.mend, ringSlot(r.gen), 0); err != nil {
			return err
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state, st.journal = r.state, r.journal
	st.staged, st.data, st.walking, st.planned = writer{}, false, false, 0
	return nil
}

// Refresh reads all of it anew.
func (st *store) Refresh(ctx context.Context) error {
	st.turn.Lock()
	defer st.turn.Unlock()
	return st.reload(ctx)
}

// Close makes a checkpoint unless the log is short.
func (st *store) Close(ctx context.Context) error {
	st.turn.Lock()
	defer st.turn.Unlock()
	if st.state == nil || st.cfg.ReadOnly || st.fenced {
		return nil
	}
	const short = 64
	if st.pending == nil && len(st.staged.b) == 0 && st.blocks <= short {
		return nil
	}
	return st.commit(ctx, 0, st.blocks > short)
}

// A recovery reads what is on a device.
type recovery struct {
	geo *geometry
	dev block.Device
	*state
	journal
	// upTo, if not 0, is the last commit to replay; torn says that the log
	// has one more, whose data are not there.
	upTo uint64
	torn bool
	// mend is the checkpoint if one of the two places has not got it.
	mend []byte
}

func (r *recovery) load(ctx context.Context) error {
	if err := r.replay(ctx); err != nil || !r.torn {
		return err
	}
	r.upTo = r.seq - 1
	err := r.replay(ctx)
	r.torn = true
	return err
}

// replay reads the newest checkpoint and the log.
func (r *recovery) replay(ctx context.Context) error {
	c, err := r.newest(ctx)
	if err != nil {
		return err
	}
	r.journal = journal{log: c.log, ahead: c.ahead, prev: c.sum, gen: c.gen, durable: c.seq, mark: c.seq, sums: c.seq, token: c.token}
	if err := r.readNodes(ctx, c); err != nil {
		return err
	}
	r.seq = c.seq
	here := r.geo.segmentOf(c.log)
	if r.space.kind[here] != segFree {
		return fmt.Errorf("the log begins in segment %d, which is in use: %w", here, snapshot.ErrDamaged)
	}
	r.space.turn(here, segLog)
	r.logs = []int{here}
	if c.ahead != 0 {
		if err := r.enter(c.ahead); err != nil {
			return err
		}
		r.logs = append(r.logs, r.geo.segmentOf(c.ahead))
	}
	for r.upTo == 0 || r.seq < r.upTo {
		more, err := r.next(ctx)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// newest finds the newest checkpoint in the ring.
func (r *recovery) newest(ctx context.Context) (best checkpoint, err error) {
	b := make([]byte, ringSlots*blockSize)
	if err := r.dev.ReadAt(ctx, b, ringStart, 0); err != nil {
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
		if r.mend = x; le.Uint64(x[32:]) != best.gen || r.ruined(x, i) {
			r.mend = y
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
	if r.space.kind[seg] != segFree {
		return fmt.Errorf("the log goes on in segment %d, which is in use: %w", seg, snapshot.ErrDamaged)
	}
	r.space.turn(seg, segLog)
	return nil
}

// readNodes reads the map of a checkpoint.
func (r *recovery) readNodes(ctx context.Context, c checkpoint) error {
	var image []byte
	var nodes []int
	addr, prev := c.node, uint32(0)
	b := make([]byte, blockSize)
	for i := range c.nodes {
		if err := r.dev.ReadAt(ctx, b, addr, 0); err != nil {
			return err
		}
		f, ok := r.geo.parseFrame(b, nodeMagic, addr)
		if !ok || f.seq != c.gen || f.index != uint32(i) || f.prev != prev || f.last != (i == c.nodes-1) {
			return fmt.Errorf("block %d of checkpoint %d, at %d, is not what was written: %w", i, c.gen, addr, snapshot.ErrDamaged)
		}
		if seg := r.geo.segmentOf(addr); len(nodes) == 0 || nodes[len(nodes)-1] != seg {
			nodes = append(nodes, seg)
		}
		image = append(image, f.data...)
		addr, prev = f.next, f.sum
	}
	s, err := parseImage(r.geo, image)
	if err != nil {
		return err
	}
	for _, seg := range nodes {
		if s.space.kind[seg] != segFree {
			return fmt.Errorf("segment %d has data and a checkpoint: %w", seg, snapshot.ErrDamaged)
		}
		s.space.turn(seg, segNode)
	}
	r.state, r.nodes = s, nodes
	return nil
}

// next replays a commit, if there is one.
func (r *recovery) next(ctx context.Context) (more bool, err error) {
	addr, ahead, prev := r.log, r.ahead, r.prev
	var p []byte
	var logs []int64
	b := make([]byte, blockSize)
	var f frame
	for i := uint32(0); i == 0 || !f.last; i++ {
		if err := r.dev.ReadAt(ctx, b, addr, 0); err != nil {
			return false, err
		}
		var ok bool
		f, ok = r.geo.parseFrame(b, logMagic, addr)
		if !ok || f.prev != prev || f.seq != r.seq+1 || f.index != i || ahead != 0 && f.next != ahead || i > uint32(r.geo.segments*r.geo.segment/blockSize) {
			return false, r.ends(ctx, addr, ahead)
		}
		p = append(p, f.data...)
		if ahead == 0 {
			ahead = f.next
			logs = append(logs, ahead)
		}
		last := r.geo.lastBlock(addr)
		addr, prev = r.geo.follow(addr, ahead), f.sum
		if last {
			ahead = 0
		}
	}
	sums := map[int64]uint32{}
	if err := r.redoAll(p, sums); err != nil {
		return false, err
	}
	r.seq++
	for _, x := range logs {
		if err := r.enter(x); err != nil {
			return false, err
		}
	}
	// Commits that a later one knows to be durable need not be looked at, and
	// must not be: their places may have been written in place since.
	if r.torn, err = r.lost(ctx, f, addr, ahead, prev, sums); err != nil || r.torn {
		return false, err
	}
	for _, x := range logs {
		r.logs = append(r.logs, r.geo.segmentOf(x))
	}
	r.log, r.ahead, r.prev, r.token = addr, ahead, prev, max(r.token, f.token)
	r.blocks += int64(f.index) + 1
	r.durable, r.mark = f.seq, f.mark
	if len(sums) > 0 {
		r.sums = f.seq
	}
	return true, nil
}

// redoAll carries out the records of a commit, and collects the checksums of
// the places that are in use after it.
func (r *recovery) redoAll(p []byte, sums map[int64]uint32) error {
	in := &reader{b: p}
	for len(in.b) > 0 {
		x := in.record(r.geo)
		if in.bad != nil {
			return fmt.Errorf("commit %d: %w", r.seq+1, in.bad)
		}
		if err := r.redo(&x); err != nil {
			return fmt.Errorf("commit %d: %w", r.seq+1, err)
		}
		for i, sum := range x.sums {
			if x.op == opSet {
				sums[x.slot+int64(i)] = sum
			}
			for _, g := range x.gaps {
				sums[g.slot+int64(i)] = sum
			}
		}
		for i, sum := range x.spareSums {
			sums[x.spare+int64(i)] = sum
		}
	}
	for _, slot := range r.space.freed {
		delete(sums, slot)
	}
	r.space.release(r.space.freed)
	r.space.freed = nil
	return nil
}

// lost reports whether data of a commit have not arrived.
func (r *recovery) lost(ctx context.Context, f frame, addr, ahead int64, prev uint32, sums map[int64]uint32) (bool, error) {
	b := make([]byte, blockSize)
	if err := r.dev.ReadAt(ctx, b, addr, 0); err != nil {
		return false, err
	}
	if n, ok := r.geo.parseFrame(b, logMagic, addr); ok && n.prev == prev && n.seq == f.seq+1 && n.mark >= f.seq {
		return false, nil
	}
	if x, err := r.newestProof(ctx, addr, ahead); err != nil || x.mark >= f.seq {
		return false, err
	}
	p := make([]byte, r.geo.chunk)
	for slot, want := range sums {
		if err := r.dev.ReadAt(ctx, p, r.geo.off(slot), 0); err != nil {
			return false, err
		}
		if crc32.Checksum(p, castagnoli) != want {
			return true, nil
		}
	}
	return false, nil
}
