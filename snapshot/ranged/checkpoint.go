package ranged

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-storage/strata/snapshot"
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
	out                 batch
	// whole: it is a commit itself, of staged, which did not fit into the
	// log, with data, and freed.
	whole, data bool
	staged      []byte
	freed       []int64
}

// checkpoint makes one. The caller holds making. Commits go on meanwhile,
// unless the log is full.
func (st *store) checkpoint(ctx context.Context, token uint64) error {
	st.turn.Lock()
	defer st.turn.Unlock()
	if err := st.prepare(ctx, token); err != nil {
		return err
	}
	if st.draft != nil {
		// It may be on the device.
		if err := st.install(ctx); err != nil {
			return err
		}
	}
	d := st.freeze()
	var err error
	if d.whole {
		err = st.build(ctx, d)
	} else {
		if st.pending != nil {
			err = st.finish(ctx)
		}
		st.turn.Unlock()
		if err == nil {
			err = st.build(ctx, d)
		}
		st.turn.Lock()
	}
	if err == nil {
		err = st.fence(ctx, token)
	}
	if err != nil {
		st.thaw(d)
		return err
	}
	st.draft = d
	return st.install(ctx)
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
	st.frozen, st.mem = st.mem, newMemtable()
	for _, seg := range st.logs {
		if seg != st.geo.segmentOf(st.log) && (st.ahead == 0 || seg != st.geo.segmentOf(st.ahead)) {
			d.logs = append(d.logs, seg)
		}
	}
	return d
}

// thaw gives a draft up.
func (st *store) thaw(d *draft) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mem.under(d.mem)
	st.frozen = nil
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

// block allocates a block.
func (st *store) block(d *draft) (int64, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	addr, err := st.space.node()
	if err == nil {
		d.taken = append(d.taken, addr)
	}
	return addr, err
}

// put writes a block, some at a time.
func (st *store) put(ctx context.Context, d *draft, addr int64, b []byte) error {
	const most = 256
	if d.out.add(addr, b); len(d.out.writes) < most && len(d.out.writes[len(d.out.writes)-1].b) < most*blockSize {
		return nil
	}
	return st.pour(ctx, d)
}

func (st *store) pour(ctx context.Context, d *draft) error {
	for _, w := range d.out.writes {
		if err := w.do(ctx, st.cfg.Device); err != nil {
			return err
		}
	}
	d.out.writes = nil
	return nil
}

// build writes all of a checkpoint but its entry in the ring.
func (st *store) build(ctx context.Context, d *draft) error {
	m := merger{ctx: ctx, t: d.trees.chunks, gen: d.gen, take: func() (int64, error) { return st.block(d) },
		put: func(n *node) error { return st.put(ctx, d, n.link.addr, n.b) }}
	var eras []op
	m.changed = func(c int64, old, list []entry) { eras = eraOps(eras, c, old, list) }
	var ops []op
	for _, c := range d.mem.sorted() {
		ops = append(ops, mapOp(c, d.mem.chunks[c]))
	}
	next := &trees{seq: d.seq, records: d.trees.records, runs: d.trees.runs}
	var err error
	if next.chunks, err = m.merge(ops); err != nil {
		return err
	}
	next.records += m.records
	slices.SortFunc(eras, func(a, b op) int {
		if a.k.less(b.k) {
			return -1
		}
		return 1
	})
	m.t, m.records = d.trees.eras, 0
	if next.eras, err = m.merge(eras); err != nil {
		return err
	}
	next.runs += m.records
	d.trees = next
	for _, l := range m.gone {
		d.links, d.gone = append(d.links, l), append(d.gone, l.addr)
	}
	if err := st.buildBitmaps(ctx, d); err != nil {
		return err
	}
	if err := st.buildImage(ctx, d); err != nil {
		return err
	}
	if err := st.pour(ctx, d); err != nil {
		return err
	}
	return st.cfg.Device.Flush(ctx)
}

// eraOps adds how the eras change with the entries of a chunk.
func eraOps(all []op, c int64, old, list []entry) []op {
	has := func(list []entry, to snapshot.ID) bool {
		return slices.ContainsFunc(list, func(e entry) bool { return e.to == to })
	}
	for i := range old {
		if to := old[i].to; to != head && !has(list, to) {
			all = append(all, op{k: key{uint64(to), uint64(c)}})
		}
	}
	for i := range list {
		if to := list[i].to; to != head && !has(old, to) {
			all = append(all, op{k: key{uint64(to), uint64(c)}, add: true})
		}
	}
	return all
}

// buildBitmaps writes the bits of segments that have changed.
func (st *store) buildBitmaps(ctx context.Context, d *draft) error {
	for i := range d.segs {
		x := &d.segs[i]
		partial := x.kind == segData && int64(x.used) < st.geo.perSegment()
		if partial && x.addr != 0 && !x.dirty {
			continue
		}
		if x.addr != 0 {
			d.gone = append(d.gone, x.addr)
			x.addr = 0
		}
		if !partial {
			continue
		}
		var err error
		if x.addr, err = st.block(d); err != nil {
			return err
		}
		if err := st.put(ctx, d, x.addr, st.geo.encodeBitmap(i, x.bits, x.addr, d.gen)); err != nil {
			return err
		}
	}
	return nil
}

// buildImage writes the rest of the state. It takes blocks until it fits: what
// it takes is a part of it.
func (st *store) buildImage(ctx context.Context, d *draft) error {
	d.gone = append(d.gone, st.images...)
	var p []byte
	for {
		st.mu.RLock()
		p = d.describe(&st.space)
		st.mu.RUnlock()
		need := max((len(p)+payload-1)/payload, 1)
		if len(d.images) >= need {
			break
		}
		for len(d.images) < need {
			addr, err := st.block(d)
			if err != nil {
				return err
			}
			d.images = append(d.images, addr)
		}
	}
	d.checkpoint.image, d.blocks = d.images[0], int64(len(d.images))
	prev := uint32(0)
	for i, addr := range d.images {
		last := i == len(d.images)-1
		f := frame{magic: imageMagic, uuid: st.geo.uuid, prev: prev, seq: d.gen, mount: st.mount, self: addr, next: addr, index: uint32(i), last: last}
		if !last {
			f.next = d.images[i+1]
		}
		f.data = p[:min(len(p), payload)]
		p = p[len(f.data):]
		if err := st.put(ctx, d, addr, f.encode()); err != nil {
			return err
		}
		prev = f.sum
	}
	return nil
}

// install makes the draft, which is on the device, the newest checkpoint. When
// that fails it may be or not, and must be tried again.
func (st *store) install(ctx context.Context) error {
	d, dev := st.draft, st.cfg.Device
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
	st.state.trees, st.frozen = d.trees, nil
	for i := range d.segs {
		st.space.segs[i].addr = d.segs[i].addr
	}
	for _, l := range d.links {
		l.p.Store(nil)
	}
	st.space.drop(d.gone)
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
	return st.frozen == nil && (st.eager && len(st.mem.chunks) > 0 || st.mem.bytes > st.memLimit() || st.blocks > int64(st.maxLogs())*st.geo.segment/blockSize/2)
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
