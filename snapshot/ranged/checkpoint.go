package ranged

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// A draft is a checkpoint that is being made. It describes the state as it was
// after a commit, while others go on.
type draft struct {
	checkpoint
	roll
	segs   []segment
	doomed []span
	values map[string][]byte
	mem    *memtable
	trees  *trees
	// logs are the segments of the log that only the last checkpoint needs,
	// length how much of the log.
	logs   []int
	length int64
	// taken are the blocks it has been given, images those that are no
	// nodes, gone the blocks of the last checkpoint that it does not need,
	// links the nodes among them.
	taken, images, gone []int64
	links               []*link
	// made are the nodes it has made.
	made []*link
	// stage is the one that goes on, left how many records a step
	// still may look at.
	stage, left int
	// m makes a tree, eras is what becomes of that of the eras, seg the next
	// segment to look at, and content what is left of the image, of which
	// written blocks, the last with a checksum, are done.
	m       *merger
	eras    eraChanges
	seg     int
	content []byte
	written int
	sum     uint32
	// out has waiting blocks to write, unflushed is how many were written
	// since a flush.
	out                batch
	waiting, unflushed int
	// whole: it is a commit itself, of staged, which did not fit into the
	// log, with data, and freed.
	whole, data bool
	// risky: it may be on the device.
	risky  bool
	staged []byte
	freed  []int64
}

// checkpoint makes a checkpoint at once, or ends the one that is being made, so
// that all that is staged becomes durable. The caller holds making. Commits go
// on meanwhile, unless the log is full.
func (st *store) checkpoint(ctx context.Context, token uint64) error {
	if st.draft != nil {
		if err := st.complete(ctx, token); err != nil {
			return err
		}
		st.turn.Lock()
		err := st.commit(ctx, token)
		st.turn.Unlock()
		if !errors.Is(err, errFull) {
			return err
		}
	}
	if err := st.begin(ctx, token); err != nil {
		return err
	}
	return st.complete(ctx, token)
}

// begin makes a draft. If it is a commit by itself, as the log is full, it is
// completed at once: no other commit can be made before. The caller holds
// making.
func (st *store) begin(ctx context.Context, token uint64) error {
	for !st.clear(clearAtOnce) {
	}
	st.turn.Lock()
	defer st.turn.Unlock()
	if err := st.prepare(ctx, token); err != nil {
		return err
	}
	d := st.freeze()
	if !d.whole {
		if st.pending == nil {
			return nil
		}
		err := st.finish(ctx)
		if err != nil {
			st.thaw()
		}
		return err
	}
	for done := false; !done; {
		var err error
		if done, err = st.build(ctx, d, buildAtOnce); err != nil {
			st.thaw()
			return err
		}
	}
	return st.install(ctx, token)
}

// A step of a build, and of what follows it, when nobody waits for others.
const (
	buildAtOnce = 64 << 10
	clearAtOnce = 4096
)

// complete ends the draft, if there is one. The caller holds making.
func (st *store) complete(ctx context.Context, token uint64) error {
	for st.draft != nil {
		if err := st.further(ctx, token, buildAtOnce); err != nil {
			return err
		}
	}
	for !st.clear(clearAtOnce) {
	}
	return nil
}

// further goes on with the draft for about budget records. The caller holds
// making.
func (st *store) further(ctx context.Context, token uint64, budget int) error {
	if st.draft.stage < stageReady {
		done, err := st.build(ctx, st.draft, budget)
		if err != nil {
			st.thaw()
		}
		if err != nil || !done {
			return err
		}
	}
	st.turn.Lock()
	defer st.turn.Unlock()
	return st.install(ctx, token)
}

// freeze makes a commit of what is staged and a draft of the state after it.
func (st *store) freeze() *draft {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := &draft{checkpoint: checkpoint{gen: st.gen + 1}}
	if !st.makeBatch() {
		d.whole, d.data, d.staged, d.freed = true, st.data, st.staged.b, st.space.freed
		st.staging(st.seq + 1)
	}
	d.seq, d.token, d.log, d.ahead, d.prev = st.seq, st.token, st.log, st.ahead, st.prev
	d.roll, d.doomed, d.values = st.roll, st.doomed, maps.Clone(st.values)
	d.segs = st.space.freeze()
	d.mem, d.trees, d.length = st.mem, st.state.trees, st.blocks
	st.frozen, st.mem, st.draft = st.mem, newMemtable(), d
	for _, seg := range st.logs {
		if seg != st.geo.segmentOf(st.log) && (st.ahead == 0 || seg != st.geo.segmentOf(st.ahead)) {
			d.logs = append(d.logs, seg)
		}
	}
	return d
}

// thaw gives the draft up, which is not on the device. The caller holds making.
func (st *store) thaw() {
	d := st.draft
	for _, l := range d.made {
		st.chunks.cache.drop(l) // nobody else reads it
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.draft = nil
	// What has changed since is little as a rule, and what was frozen is not.
	d.mem.over(st.mem)
	st.mem, st.frozen = d.mem, nil
	st.space.drop(d.taken)
	for i := range d.segs {
		if d.segs[i].dirty {
			st.space.segs[i].dirty = true
		}
	}
	if d.whole {
		st.staged.b = append(d.staged, st.staged.b...)
		st.space.waiting -= int64(len(d.freed))
		st.space.freed = append(d.freed, st.space.freed...)
		st.data, st.seq = st.data || d.data, d.seq-1
	}
}

// install makes the draft, which is on the device, the newest checkpoint. When
// that fails it may be or not, and must be tried again. The caller holds making
// and turn.
func (st *store) install(ctx context.Context, token uint64) error {
	d, dev := st.draft, st.cfg.Device
	if err := st.fence(ctx, token); err != nil {
		if !d.risky {
			st.thaw()
		}
		return err
	}
	d.risky = true
	ring := d.encode(&st.geo)
	if err := dev.WriteAt(ctx, ring, ringSlot(d.gen), 0); err != nil {
		return err
	}
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	// The copy becomes durable with the next commit, or is made again.
	err := dev.WriteAt(ctx, ring, ringCopy(d.gen), 0)
	st.mu.Lock()
	st.draft, st.gen, st.images = nil, d.gen, d.images
	st.state.trees, st.frozen, st.lost = d.trees, nil, loss{}
	for i := range d.segs {
		st.space.segs[i].addr = d.segs[i].addr
	}
	st.gone, st.links = d.gone, d.links
	for _, seg := range d.logs {
		st.space.turn(seg, segFree)
	}
	st.logs = slices.DeleteFunc(st.logs, func(seg int) bool { return slices.Contains(d.logs, seg) })
	st.blocks -= d.length
	if d.whole {
		st.durable, st.mark = d.seq, d.seq
		st.commits++
	}
	st.space.cool(st.maxBits())
	st.mu.Unlock()
	if d.whole {
		st.retire(d.freed)
	}
	return err
}

// due reports whether a checkpoint is.
func (st *store) due() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	log := int64(st.maxLogs()) * st.geo.segment / blockSize
	switch {
	case st.frozen != nil:
		return false
	case st.eager && st.mem.chunks > 0:
		return true
	case st.lost != loss{}:
		return st.mem.bytes > max(st.memLimit(), st.lost.bytes+st.memLimit()/lostParts) || st.blocks > max(log/2, st.lost.blocks+log/2/lostParts)
	}
	return st.mem.bytes > st.memLimit() || st.blocks > log/2
}

// A loss is how much had changed, and how long the log was, when a draft was
// given up because others had the lock. As long as they keep taking it another
// draft would go the same way: what was done for it is in vain, and done again
// under every hold. So nothing is begun that can wait, and at last a commit makes
// the checkpoint in one piece.
type loss struct{ bytes, blocks int64 }

// lostParts is in how many parts what may yet change, or be logged, must come
// before another draft is begun.
const lostParts = 4

// giveUp gives up the draft because others have had the lock, who may have used
// the blocks that it has been given. The caller holds making.
func (st *store) giveUp() {
	if st.draft == nil || st.draft.risky {
		return
	}
	st.thaw()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lost = loss{st.mem.bytes, st.blocks}
}

// Close makes a checkpoint unless the log is short.
func (st *store) Close(ctx context.Context) error {
	if st.state == nil || st.cfg.ReadOnly || st.fenced {
		return nil
	}
	const short = 64
	st.turn.Lock()
	clean := st.pending == nil && len(st.staged.b) == 0
	long := st.blocks > short
	st.turn.Unlock()
	if clean && !long {
		return nil
	}
	if !long {
		return st.Commit(ctx, 0)
	}
	st.making.Lock()
	defer st.making.Unlock()
	return st.checkpoint(ctx, 0)
}

// compact makes a checkpoint in the background.
func (st *store) compact(ctx context.Context) error {
	st.making.Lock()
	defer st.making.Unlock()
	return st.checkpoint(ctx, 0)
}
