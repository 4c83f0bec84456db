package ranged

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// Check reads the device as Load does, and all that Load leaves for later. If
// nothing is staged the state in memory must be the same.
func (st *store) Check(ctx context.Context, report func(error)) error {
	st.making.Lock()
	defer st.making.Unlock()
	st.turn.Lock()
	defer st.turn.Unlock()
	if st.draft != nil && !st.draft.risky {
		// What it has taken would look like a loss.
		st.thaw()
	}
	for !st.clear(clearAtOnce) {
	}
	if st.state == nil {
		if _, err := st.readSuper(ctx); err != nil {
			report(err)
			return nil
		}
	}
	if err := st.checkSupers(ctx, report); err != nil {
		return err
	}
	r := st.recovery(st.newCache())
	if err := r.load(ctx); err != nil {
		report(err)
		return nil
	}
	if len(r.ring) > 0 {
		report(fmt.Errorf("one of the copies of checkpoint %d is not what was written: %w", r.gen, snapshot.ErrDamaged))
	}
	a := &audit{ctx: ctx, r: r, report: report, nodes: map[int64]string{}, slots: make([]uint64, (r.geo.slots()+63)/64)}
	a.run()
	if st.state != nil {
		st.compare(r, report)
	}
	return nil
}

// checkSupers verifies both superblocks.
func (st *store) checkSupers(ctx context.Context, report func(error)) error {
	b := make([]byte, blockSize)
	for _, off := range []int64{0, st.geo.size - blockSize} {
		if err := st.cfg.Device.ReadAt(ctx, b, off, 0); err != nil {
			return err
		}
		if g, err := parseSuper(b, st.geo.size); err != nil || g != st.geo {
			report(fmt.Errorf("the superblock at %d is not what was written: %w", off, cmp.Or(err, snapshot.ErrDamaged)))
		}
	}
	return nil
}

// compare finds out whether the state in memory is what the device has.
func (st *store) compare(r *recovery, report func(error)) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if len(st.staged.b) > 0 || st.pending != nil || st.draft != nil {
		return
	}
	if st.seq != r.seq || st.gen != r.gen || st.next != r.next || !slices.Equal(st.live, r.live) || !slices.Equal(st.doomed, r.doomed) {
		report(fmt.Errorf("commit %d and checkpoint %d in memory, commit %d and checkpoint %d on the device: %w", st.seq, st.gen, r.seq, r.gen, snapshot.ErrDamaged))
		return
	}
	if !maps.EqualFunc(st.values, r.values, slices.Equal) {
		report(fmt.Errorf("other values in memory than on the device: %w", snapshot.ErrDamaged))
	}
	if st.mem.chunks != r.mem.chunks {
		report(fmt.Errorf("%d chunks have changed, on the device %d: %w", st.mem.chunks, r.mem.chunks, snapshot.ErrDamaged))
	}
	for c, list := range st.mem.all() {
		if other, _ := r.mem.get(c, nil); !continues(list, other, 0) {
			report(fmt.Errorf("chunk %d has other entries in memory than on the device: %w", c, snapshot.ErrDamaged))
		}
	}
	for i := range st.space.segs {
		if x, y := &st.space.segs[i], &r.space.segs[i]; x.used != y.used || x.addr != y.addr || x.kind != y.kind && x.busy == 0 {
			report(fmt.Errorf("segment %d has kind %d and %d places or nodes in memory, %d and %d on the device: %w", i, x.kind, x.used, y.kind, y.used, snapshot.ErrDamaged))
		}
	}
	if st.space.all != r.space.all || st.space.busy < st.space.waiting {
		report(fmt.Errorf("%d places are in use, on the device %d: %w", st.space.all, r.space.all, snapshot.ErrDamaged))
	}
}

// An audit walks over all that a device has.
type audit struct {
	ctx    context.Context
	r      *recovery
	report func(error)
	// nodes are the blocks that were found, with what they are; slots has a
	// bit for each place that the map uses.
	nodes map[int64]string
	slots []uint64
	// entries are those that eras must have, and runs what they have.
	entries, runs int64
	records       [2]int64
}

func (a *audit) problem(format string, args ...any) {
	a.report(fmt.Errorf(format+": %w", append(args, snapshot.ErrDamaged)...))
}

// found notes a block.
func (a *audit) found(addr int64, what string) {
	seg, j := a.r.geo.segmentOf(addr), (addr-a.r.geo.base)%a.r.geo.segment/blockSize
	if old, ok := a.nodes[addr]; ok {
		a.problem("the block at %d is %s and %s", addr, old, what)
	}
	a.nodes[addr] = what
	if x := &a.r.space.segs[seg]; x.kind != segNode || x.bits[j/64]&(1<<(j%64)) == 0 {
		a.problem("the block at %d is %s and free", addr, what)
	}
}

func (a *audit) run() {
	r := a.r
	for _, addr := range r.images {
		a.found(addr, "a part of the image")
	}
	a.tree(r.chunks)
	a.tree(r.eras)
	if r.records != a.records[0] || r.runs != a.records[1] {
		a.problem("the trees have %d and %d records, expected %d and %d", a.records[0], a.records[1], r.records, r.runs)
	}
	if a.entries != a.runs {
		a.problem("the eras have %d chunks, expected %d", a.runs, a.entries)
	}
	a.changes()
	a.space()
	last := snapshot.ID(0)
	for _, id := range r.live {
		if id <= last || id >= r.next {
			a.problem("snapshot %d follows %d, the next one is %d", id, last, r.next)
		}
		last = id
	}
}

// changes verifies the chunks that have changed since the trees were made.
func (a *audit) changes() {
	for c, list := range a.r.mem.all() {
		if partial(list) {
			g, err := a.r.chunks.find(a.ctx, c, nil, 0)
			if err != nil {
				a.report(err)
				continue
			}
			var found bool
			if list, found = settled(list, g.list); !found {
				a.problem("entries of chunk %d are left out which the map has not", c)
			}
		}
		a.group(group{c, 1, list})
	}
}

// tree walks over the nodes of a tree.
func (a *audit) tree(t *tree) {
	if t.root != nil {
		a.node(t, t.root, t.level, key{}, key{max48, max48})
	}
}

// node verifies a node, whose keys must be from lo on and below hi.
func (a *audit) node(t *tree, l *link, level int, lo, hi key) {
	n, err := t.cache.get(a.ctx, l, t.kind, level, 0)
	if err != nil {
		a.report(err)
		return
	}
	a.found(l.addr, "a node")
	if n.keyAt(0).less(lo) || !n.keyAt(n.count-1).less(hi) {
		a.problem("the node at %d has keys that belong elsewhere", l.addr)
	}
	if level == 0 {
		if t.kind == mapNode {
			a.records[0] += int64(n.count)
			a.mapLeaf(t, n)
		} else {
			a.records[1] += int64(n.count)
			a.eraLeaf(n)
		}
		return
	}
	for i, kid := range n.kids {
		end := hi
		if i+1 < n.count {
			end = n.keyAt(i + 1)
		}
		a.node(t, kid, level-1, n.keyAt(i), end)
	}
}

func (a *audit) mapLeaf(t *tree, n *node) {
	end := int64(0)
	for i := 0; i < n.count; {
		c, run := n.run(i)
		if c < end {
			a.problem("the records of chunk %d begin within those before", c)
		}
		var list []entry
		var err error
		if e := n.entryAt(i); e.where == snapshot.OnOrigin {
			list, err = t.chain(a.ctx, e, nil, 0, func(l *link) { a.found(l.addr, "a list of entries") })
		} else {
			list, err = t.entries(a.ctx, n, i, nil, 0)
		}
		if err != nil {
			a.report(err)
		}
		for end = c + run; i < n.count; i++ {
			if at, k := n.run(i); at != c {
				break
			} else if k != run {
				a.problem("records of chunk %d have %d and %d chunks", c, run, k)
			}
		}
		a.eraEntries(group{c, run, list})
		if g := (group{c, run, list}); a.r.mem.empty() {
			a.group(g)
		} else {
			for at := c; at < c+run; at++ {
				if _, ok := a.r.mem.get(at, nil); !ok {
					a.group(group{at, 1, moved(nil, list, at-c)})
				}
			}
		}
	}
}

// eraEntries makes sure that the eras have the entries of a group.
func (a *audit) eraEntries(g group) {
	for i := range g.list {
		e := &g.list[i]
		if e.to == head {
			continue
		}
		a.entries += g.n
		for c := g.chunk; c < g.chunk+g.n; {
			to, at, n, ok, err := a.r.eras.eraRun(a.ctx, key{uint64(e.to), uint64(c)})
			if err != nil || !ok || to != e.to || at != c {
				a.problem("era %d does not have chunk %d (%v)", e.to, c, err)
				return
			}
			c += n
		}
	}
}

func (a *audit) eraLeaf(n *node) {
	for i := range n.count {
		c, run := n.run(i)
		a.runs += run
		if i > 0 {
			if before, k := n.run(i - 1); n.keyAt(i-1).a == n.keyAt(i).a && before+k > c {
				a.problem("era %d has chunk %d twice", n.keyAt(i).a, c)
			}
		}
	}
}

// group verifies the entries of chunks as they are after the last commit.
func (a *audit) group(g group) {
	if err := a.r.validate(g.list, a.r.geo, g.n); err != nil {
		a.report(fmt.Errorf("chunk %d: %w", g.chunk, err))
		return
	}
	for i := range g.list {
		if e := &g.list[i]; a.r.users(e.from, e.to) == 0 && !a.doomed(e, g) {
			a.problem("chunk %d: nobody uses the entry for snapshots %d to %d", g.chunk, e.from, e.to)
		}
	}
	for _, slot := range slotsOf(nil, g.list) {
		for s := slot; s < slot+g.n; s++ {
			if a.slots[s/64]&(1<<(s%64)) != 0 {
				a.problem("place %d is used twice, by chunk %d as well", s, g.chunk+s-slot)
			}
			a.slots[s/64] |= 1 << (s % 64)
		}
	}
}

// doomed reports whether an entry without users will be looked at.
func (a *audit) doomed(e *entry, g group) bool {
	return slices.ContainsFunc(a.r.doomed, func(x span) bool {
		return e.to <= x.to && !(key{uint64(e.to), uint64(g.chunk)}).less(x.from)
	})
}

// bitmap verifies the block with the bits of a segment, which the log may have
// changed since.
func (a *audit) bitmap(i int, x *segment) {
	a.found(x.addr, "the places of a segment")
	b := make([]byte, blockSize)
	err := a.r.dev.ReadAt(a.ctx, b, x.addr, 0)
	switch {
	case err != nil:
	case x.dirty:
		if !sealed(b, bitmapMagic) {
			a.problem("the block at %d does not have the places of segment %d", x.addr, i)
		}
	default:
		x.bits, err = a.r.geo.parseBitmap(b, i, x.addr, x.used)
	}
	if err != nil {
		a.report(err)
	}
}

// space compares what is allocated with what was found.
func (a *audit) space() {
	r := a.r
	for i := range r.space.segs {
		if x := &r.space.segs[i]; x.addr != 0 {
			a.bitmap(i, x)
		}
	}
	if int64(len(a.nodes)) != r.space.nodes {
		a.problem("there are %d nodes, %d blocks are taken", len(a.nodes), r.space.nodes)
	}
	for i := range r.space.segs {
		x := &r.space.segs[i]
		if x.kind != segData {
			continue
		}
		if !r.space.warm(i) {
			continue
		}
		for j := range r.space.per {
			s := int64(i)*r.space.per + j
			if used := a.slots[s/64]&(1<<(s%64)) != 0; used != (x.bits[j/64]&(1<<(j%64)) != 0) {
				a.problem("place %d is in use: %v, but allocated: %v", s, used, !used)
			}
		}
	}
	for i, w := range a.slots {
		for j := range int64(64) {
			if seg := (int64(i)*64 + j) / r.space.per; w&(1<<j) != 0 && r.space.segs[seg].kind != segData {
				a.problem("place %d is in use, in a segment of kind %d", int64(i)*64+j, r.space.segs[seg].kind)
			}
		}
	}
}
