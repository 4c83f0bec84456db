package ranged

import "context"

// What a stage of a draft costs, in records: to look at a segment, and to write
// a block that is no node.
const (
	segmentWork = 1
	blockWork   = 64
)

// Drafts write so many blocks at a time, and flush after so many: a flush that
// has all to do at the end would take long.
const (
	pourBlocks  = 256
	flushBlocks = 1024
)

// The stages of a draft: what has to be done for it, one after the other, but
// for its entry in the ring.
const (
	stageMap = iota
	stageEras
	stageBitmaps
	stageImage
	stagePour
	stageReady
)

// build goes on with a draft for about budget records. It reports whether the
// draft is ready to be installed.
func (st *store) build(ctx context.Context, d *draft, budget int) (ready bool, err error) {
	for d.left = budget; d.left > 0 && d.stage < stageReady; {
		done := true
		switch d.stage {
		case stageMap:
			done, err = st.buildMap(ctx, d)
		case stageEras:
			done, err = st.buildEras(ctx, d)
		case stageBitmaps:
			done, err = st.buildBitmaps(ctx, d)
		case stageImage:
			done, err = st.buildImage(ctx, d)
		case stagePour:
			err = st.pour(ctx, d)
		}
		if err != nil {
			return false, err
		}
		if done {
			d.stage++
		}
	}
	return d.stage == stageReady, nil
}

// merge goes on with the merger, and returns the new tree when it is done.
func (st *store) merge(ctx context.Context, d *draft, t *tree, ops changes) (*tree, error) {
	if d.m == nil {
		d.m = &merger{t: t, ops: ops, gen: d.gen, changed: d.eras.note, take: func() (int64, error) { return st.block(d) },
			put: func(n *sheet) error {
				d.made = append(d.made, n.link)
				return st.put(d.m.ctx, d, n.link.addr, n.b)
			}}
	}
	m := d.m
	m.ctx = ctx
	for d.left > 0 {
		before := m.work
		next, err := m.step()
		d.left -= m.work - before
		if err != nil {
			return nil, err
		}
		if next != nil {
			for _, l := range m.gone {
				d.links, d.gone = append(d.links, l), append(d.gone, l.addr)
			}
			return next, nil
		}
	}
	return nil, nil
}

func (st *store) buildMap(ctx context.Context, d *draft) (bool, error) {
	next, err := st.merge(ctx, d, d.trees.chunks, &cursor{m: d.mem})
	if next == nil {
		return false, err
	}
	d.trees = &trees{seq: d.seq, records: d.trees.records + d.m.records, runs: d.trees.runs, chunks: next, eras: d.trees.eras}
	d.m = nil
	return true, nil
}

func (st *store) buildEras(ctx context.Context, d *draft) (bool, error) {
	next, err := st.merge(ctx, d, d.trees.eras, &d.eras)
	if next == nil {
		return false, err
	}
	d.trees.eras, d.trees.runs = next, d.trees.runs+d.m.records
	d.m = nil
	return true, nil
}

// buildBitmaps writes the bits of segments that have changed.
func (st *store) buildBitmaps(ctx context.Context, d *draft) (bool, error) {
	for ; d.seg < len(d.segs); d.seg++ {
		if d.left <= 0 {
			return false, nil
		}
		d.left -= segmentWork
		x := &d.segs[d.seg]
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
			return false, err
		}
		d.left -= blockWork
		if err := st.put(ctx, d, x.addr, st.geo.encodeBitmap(d.seg, x.bits, x.addr, d.gen)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// buildImage writes the rest of the state. It takes blocks until it fits: what
// it takes is a part of it.
func (st *store) buildImage(ctx context.Context, d *draft) (bool, error) {
	if d.images == nil {
		d.gone = append(d.gone, st.images...)
		if err := st.composeImage(d); err != nil {
			return false, err
		}
	}
	for d.left > 0 && d.written < len(d.images) {
		i, last := d.written, d.written == len(d.images)-1
		addr := d.images[i]
		f := frame{magic: imageMagic, uuid: st.geo.uuid, prev: d.sum, seq: d.gen, mount: st.mount, self: addr, next: addr, index: uint32(i), last: last}
		if !last {
			f.next = d.images[i+1]
		}
		f.data = d.content[:min(len(d.content), payload)]
		d.content = d.content[len(f.data):]
		if err := st.put(ctx, d, addr, f.encode()); err != nil {
			return false, err
		}
		d.left -= blockWork
		d.sum = f.sum
		d.written++
	}
	return d.written == len(d.images), nil
}

// composeImage makes what an image says, and takes its blocks.
func (st *store) composeImage(d *draft) error {
	top := d.describe()
	gone := d.masks(&st.geo)
	for {
		st.mu.RLock()
		p := d.describeSpace(&st.space, gone)
		st.mu.RUnlock()
		need := max((len(top)+len(p)+payload-1)/payload, 1)
		if len(d.images) >= need {
			d.content = append(top, p...)
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
	return nil
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
	d.out.add(addr, b)
	if d.waiting++; d.waiting < pourBlocks {
		return nil
	}
	return st.pour(ctx, d)
}

// pour writes what waits, and flushes when much has been written, or all. A
// step does not go on after that.
func (st *store) pour(ctx context.Context, d *draft) error {
	for _, w := range d.out.writes {
		if err := w.do(ctx, st.cfg.Device); err != nil {
			return err
		}
	}
	d.unflushed += d.waiting
	d.out.writes, d.waiting = nil, 0
	if d.unflushed < flushBlocks && d.stage < stagePour {
		return nil
	}
	d.unflushed, d.left = 0, 0
	return st.cfg.Device.Flush(ctx)
}

// clear frees what the last checkpoint does not need, some at a time. It
// reports whether there is nothing left.
func (st *store) clear(most int) bool {
	if len(st.gone)+len(st.links) == 0 {
		return true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	n := min(most, len(st.gone))
	st.space.drop(st.gone[:n])
	st.gone = st.gone[n:]
	for range min(most, len(st.links)) {
		st.chunks.cache.drop(st.links[0])
		st.links = st.links[1:]
	}
	return len(st.gone)+len(st.links) == 0
}
