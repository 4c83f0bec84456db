package ranged

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// An image is what a checkpoint has besides the trees: a chain of frames.
// describe encodes the state that a draft was made of, but for the space.
func (d *draft) describe() []byte {
	w := &writer{}
	w.num(uint64(d.next), uint64(len(d.live)))
	last := snapshot.ID(0)
	for _, id := range d.live {
		w.num(uint64(id - last))
		last = id
	}
	w.num(uint64(len(d.doomed)))
	for _, x := range d.doomed {
		w.num(x.from.a, x.from.b, uint64(x.to))
	}
	w.num(uint64(len(d.values)))
	for _, name := range slices.Sorted(maps.Keys(d.values)) {
		w.bytes([]byte(name))
		w.bytes(d.values[name])
	}
	for _, t := range []*tree{d.trees.chunks, d.trees.eras} {
		if t.root == nil {
			w.num(0)
		} else {
			w.num(uint64(t.root.addr/blockSize), t.root.gen, uint64(t.level))
		}
	}
	w.num(uint64(d.trees.records), uint64(d.trees.runs))
	return w.b
}

// describeSpace encodes the segments, without the blocks that are gone.
func (d *draft) describeSpace(space *space, gone map[int][]uint64) []byte {
	w := &writer{}
	at := 0
	for i := range d.segs {
		switch x, now := &d.segs[i], &space.segs[i]; {
		case x.kind == segData:
			w.num(uint64(i-at)+1, uint64(segData), uint64(x.used), uint64(x.addr/blockSize))
			at = i
		case now.kind == segNode:
			used, left := nodesLeft(now.bits, gone[i])
			w.num(uint64(i-at)+1, uint64(segNode), uint64(used))
			w.b = append(w.b, left...)
			at = i
		}
	}
	w.num(0)
	return w.b
}

// masks returns a bit for each block that is gone, by segment.
func (d *draft) masks(g *geometry) map[int][]uint64 {
	all := map[int][]uint64{}
	for _, addr := range d.gone {
		i := g.segmentOf(addr)
		if all[i] == nil {
			all[i] = make([]uint64, (g.segment/blockSize+63)/64)
		}
		j := (addr - g.start(i)) / blockSize
		all[i][j/64] |= 1 << (j % 64)
	}
	return all
}

// nodesLeft encodes the bits of a segment of nodes without those that are gone.
func nodesLeft(words, gone []uint64) (used int, b []byte) {
	for w, x := range words {
		if gone != nil {
			x &^= gone[w]
		}
		used += bits.OnesCount64(x)
		b = le.AppendUint64(b, x)
	}
	return used, b
}

// parseImage is the opposite of image. The trees are not read.
func parseImage(g *geometry, c *cache, b []byte) (*state, error) {
	s := newState(g, c)
	r := &reader{b: b}
	s.next = snapshot.ID(r.upTo(int64(head)-2, "the next snapshot"))
	if s.next == 0 {
		r.fail("the next snapshot is 0")
	}
	last := snapshot.ID(0)
	for range r.upTo(int64(len(r.b)), "a number of snapshots") {
		d := snapshot.ID(r.upTo(int64(s.next-last)-1, "a snapshot"))
		if d == 0 {
			r.fail("a snapshot follows itself")
			break
		}
		last += d
		s.live = append(s.live, last)
	}
	for range r.upTo(int64(len(r.b)), "a number of spans") {
		x := span{from: key{uint64(r.upTo(max48, "a snapshot")), uint64(r.upTo(max48, "a chunk"))}, to: snapshot.ID(r.upTo(int64(s.next)-1, "a snapshot"))}
		if snapshot.ID(x.from.a) > x.to {
			r.fail("a span from %d to %d", x.from.a, x.to)
		}
		s.doomed = append(s.doomed, x)
	}
	for range r.upTo(int64(len(r.b)), "a number of values") {
		name := string(r.bytes(64, "the length of a key"))
		s.put(name, append([]byte{}, r.bytes(snapshot.MaxValue, "the length of a value")...))
	}
	for _, t := range []*tree{s.trees.chunks, s.trees.eras} {
		r.tree(g, t)
	}
	s.trees.records, s.trees.runs = r.upTo(max48, "a number of records"), r.upTo(max48, "a number of records")
	r.segments(g, &s.space)
	if r.bad == nil && len(r.b) > 0 {
		r.fail("%d bytes are left over", len(r.b))
	}
	if r.bad != nil {
		return nil, fmt.Errorf("the checkpoint: %w", r.bad)
	}
	return s, nil
}

// tree reads where the root of a tree is.
func (r *reader) tree(g *geometry, t *tree) {
	at := r.upTo(g.size/blockSize, "a root")
	if at == 0 {
		return
	}
	t.root = &link{addr: at * blockSize, gen: uint64(r.upTo(max48, "a checkpoint"))}
	t.level = int(r.upTo(maxLevel, "a level"))
	if !g.valid(t.root.addr) {
		r.fail("a root is at %d", t.root.addr)
	}
}

// segments reads what the segments are for.
func (r *reader) segments(g *geometry, s *space) {
	at := int64(0)
	for i := 0; r.bad == nil; i++ {
		d := r.upTo(g.segments, "a segment")
		if d == 0 {
			return
		}
		if at += d - 1; at >= g.segments || i > 0 && d == 1 {
			r.fail("segment %d follows %d", at, at-d+1)
			return
		}
		switch kind := byte(r.upTo(int64(segData), "a kind of segment")); kind {
		case segData:
			s.turn(int(at), segData)
			x := &s.segs[at]
			x.bits = nil
			x.used = int32(r.upTo(g.perSegment(), "a number of places"))
			x.addr = r.upTo(g.size/blockSize, "a block") * blockSize
			if partial := int64(x.used) < g.perSegment(); x.used == 0 || partial != (x.addr != 0) || partial && !g.valid(x.addr) {
				r.fail("segment %d has %d places, which are noted at %d", at, x.used, x.addr)
			}
			s.all += int64(x.used)
		case segNode:
			r.nodes(g, s, int(at))
		default:
			r.fail("segment %d has kind %d", at, kind)
		}
	}
}

// nodes reads which blocks of a segment are nodes.
func (r *reader) nodes(g *geometry, s *space, seg int) {
	used := int32(r.upTo(g.segment/blockSize, "a number of nodes"))
	words := (g.segment/blockSize + 63) / 64
	if int64(len(r.b)) < words*8 {
		r.fail("the nodes of segment %d are cut short", seg)
		return
	}
	raw := r.b
	r.b = r.b[words*8:]
	if used > 0 {
		s.turn(seg, segNode)
		x := &s.segs[seg]
		for i := range x.bits {
			x.bits[i] = le.Uint64(raw[8*i:])
		}
		rest := g.segment / blockSize % 64
		if x.used = used; count(x.bits) != int64(used) || rest > 0 && x.bits[words-1]>>rest != 0 {
			r.fail("segment %d has %d nodes, expected %d", seg, count(x.bits), used)
		}
		s.nodes += int64(used)
	}
}

// readImage reads the frames of a checkpoint, and returns where they are.
func readImage(ctx context.Context, g *geometry, c checkpoint, read func(context.Context, []byte, int64) error) (image []byte, blocks []int64, err error) {
	addr, prev := c.image, uint32(0)
	b := make([]byte, blockSize)
	for i := range c.blocks {
		if err := read(ctx, b, addr); err != nil {
			return nil, nil, err
		}
		f, ok := g.parseFrame(b, imageMagic, addr)
		if !ok || f.seq != c.gen || f.index != uint32(i) || f.prev != prev || f.last != (i == c.blocks-1) {
			return nil, nil, fmt.Errorf("block %d of checkpoint %d, at %d, is not what was written: %w", i, c.gen, addr, snapshot.ErrDamaged)
		}
		image, blocks = append(image, f.data...), append(blocks, addr)
		addr, prev = f.next, f.sum
	}
	return image, blocks, nil
}
