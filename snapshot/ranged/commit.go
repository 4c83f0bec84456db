package ranged

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// journal is what Commit knows about the device.
type journal struct {
	// log is where the next block goes, prev the checksum it continues.
	log  int64
	prev uint32
	// ahead is the segment after that of the log, 0 if there is none yet.
	ahead int64
	gen   uint64
	// nodes are the segments of the last checkpoint, logs those of the log
	// since then.
	nodes, logs []int
	// blocks is the length of the log.
	blocks int64
	// durable is the newest commit that was flushed, mark the newest that the
	// newest durable commit knows to be durable, sums the newest with data.
	durable, mark, sums uint64
	token               uint64
	fenced              bool
	pending             *batch
}

// A batch is a commit that has been made and not yet been flushed. It can be
// written again and again.
type batch struct {
	seq, mark, gen uint64
	writes         []write
	// ring is the entry of the ring, of a checkpoint.
	ring    []byte
	freed   []int64
	dropped []int // segments
}

type write struct {
	off int64
	b   []byte
}

// do writes, in as many requests as the device wants.
func (w write) do(ctx context.Context, dev block.Device) error {
	return w.pieces(dev, func(b []byte, off int64) error { return dev.WriteAt(ctx, b, off, 0) })
}

func (w write) pieces(dev block.Device, f func(b []byte, off int64) error) error {
	limit := len(w.b)
	if n := dev.Info().MaxBlock; n > 0 {
		limit = n
	}
	for off, b := w.off, w.b; len(b) > 0; {
		n := min(len(b), limit)
		if err := f(b[:n], off); err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// maxLogBytes bounds the log, which is read when the store is loaded.
const maxLogBytes = 64 << 20

func (st *store) maxLogs() int {
	return int(max(min(st.geo.segments/16, maxLogBytes/st.geo.segment), 3))
}

// perSegment is how many bytes of an image fit into a segment.
func (st *store) imageSegments(bytes int64) int {
	per := st.geo.segment / blockSize * payload
	return int((bytes + per - 1) / per)
}

// reserve is how many segments the log and the next checkpoints may need if the
// map grows.
func (st *store) reserve(growth int64) int {
	bytes := (st.entries+st.planned+growth)*40 + st.valueBytes*2 + int64(len(st.live))*10 + 64<<10
	image := max(st.imageSegments(bytes), len(st.nodes))
	return max(st.maxLogs()+2*image-len(st.nodes)-len(st.logs), 0)
}

func (st *store) Commit(ctx context.Context, token uint64) error {
	st.turn.Lock()
	defer st.turn.Unlock()
	return st.commit(ctx, token, false)
}

// commit makes durable what is staged, by a checkpoint if that is wished.
func (st *store) commit(ctx context.Context, token uint64, whole bool) error {
	if err := st.fence(ctx, token); err != nil {
		return err
	}
	if st.pending != nil {
		if err := st.finish(ctx); err != nil {
			return err
		}
	}
	if err := st.makeBatch(whole); err != nil {
		return err
	}
	if st.pending == nil {
		return st.cfg.Device.Flush(ctx)
	}
	return st.finish(ctx)
}

// fence refuses to write when another one with a greater token has.
func (st *store) fence(ctx context.Context, token uint64) error {
	if !st.fenced && token != 0 {
		b := make([]byte, blockSize)
		if err := st.cfg.Device.ReadAt(ctx, b, st.log, 0); err != nil {
			return err
		}
		f, ok := st.geo.parseFrame(b, logMagic, st.log)
		st.fenced = token < st.token || ok && f.prev == st.prev && f.token > token
		i := ringSlot(st.gen + 1)
		if err := st.cfg.Device.ReadAt(ctx, b, i, 0); err != nil {
			return err
		}
		c, ok := st.geo.parseCheckpoint(b, int((st.gen+1)%ringTurns))
		st.fenced = st.fenced || ok && c.gen > st.gen && c.token > token
	}
	if st.fenced {
		return fmt.Errorf("the token is %d: %w", token, snapshot.ErrFenced)
	}
	st.token = max(token, st.token)
	return nil
}

// makeBatch makes a commit of what is staged.
func (st *store) makeBatch(whole bool) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.staged.b) == 0 && st.mark >= st.sums && !whole {
		return nil
	}
	b := &batch{seq: st.seq + 1, mark: st.durable, freed: st.space.freed}
	if whole || !st.makeLog(b) {
		if err := st.makeCheckpoint(b); err != nil {
			return err
		}
	}
	if st.data {
		st.sums = b.seq
	}
	st.seq, st.pending, st.data = b.seq, b, false
	st.space.waiting += int64(len(b.freed))
	st.staged.b, st.space.freed = nil, nil
	return nil
}

// makeLog makes blocks of the log. It reports whether the log has room.
func (st *store) makeLog(b *batch) bool {
	p := st.staged.b
	n := max((int64(len(p))+payload-1)/payload, 1)
	addr, ahead, prev := st.log, st.ahead, st.prev
	var logs []int
	for i := range n {
		if ahead == 0 {
			seg, ok := 0, len(st.logs)+len(logs) < st.maxLogs()
			if ok {
				seg, ok = st.space.segment(segLog)
			}
			if !ok {
				for _, seg := range logs {
					st.space.turn(seg, segFree)
				}
				return false
			}
			logs = append(logs, seg)
			ahead = st.geo.start(seg)
		}
		f := frame{magic: logMagic, uuid: st.geo.uuid, prev: prev, seq: b.seq, mount: st.mount, token: st.token, mark: b.mark,
			self: addr, next: ahead, index: uint32(i), last: i == n-1}
		f.data = p[:min(len(p), payload)]
		p = p[len(f.data):]
		b.add(addr, f.encode())
		last := st.geo.lastBlock(addr)
		addr, prev = st.geo.follow(addr, ahead), f.sum
		if last {
			ahead = 0
		}
	}
	st.logs = append(st.logs, logs...)
	st.log, st.ahead, st.prev = addr, ahead, prev
	st.blocks += n
	return true
}

// add adds a block, to the last write if it follows.
func (b *batch) add(off int64, block []byte) {
	if n := len(b.writes); n > 0 && b.writes[n-1].off+int64(len(b.writes[n-1].b)) == off {
		b.writes[n-1].b = append(b.writes[n-1].b, block...)
		return
	}
	b.writes = append(b.writes, write{off, block})
}

// makeCheckpoint makes a commit of the whole state.
func (st *store) makeCheckpoint(b *batch) error {
	*b = batch{seq: b.seq, mark: b.seq, gen: st.gen + 1, freed: b.freed}
	p := st.image()
	var nodes []int
	for range st.imageSegments(int64(len(p))) {
		seg, ok := st.space.segment(segNode)
		if !ok {
			for _, seg := range nodes {
				st.space.turn(seg, segFree)
			}
			return fmt.Errorf("the store has no room for %d bytes of its map: %w", len(p), block.ErrNoSpace)
		}
		nodes = append(nodes, seg)
	}
	addr, prev, count := st.geo.start(nodes[0]), uint32(0), int64(0)
	for left := nodes[1:]; len(p) > 0; count++ {
		f := frame{magic: nodeMagic, uuid: st.geo.uuid, prev: prev, seq: b.gen, mount: st.mount, self: addr, next: addr + blockSize, index: uint32(count)}
		f.data = p[:min(len(p), payload)]
		p = p[len(f.data):]
		f.last = len(p) == 0
		if st.geo.lastBlock(addr) {
			if f.next = addr; len(left) > 0 {
				f.next, left = st.geo.start(left[0]), left[1:]
			}
		}
		b.add(addr, f.encode())
		addr, prev = f.next, f.sum
	}
	c := checkpoint{gen: b.gen, seq: b.seq, token: st.token, log: st.log, ahead: st.ahead, node: st.geo.start(nodes[0]), nodes: count}
	b.ring = c.encode(&st.geo)
	b.dropped = append(b.dropped, st.nodes...)
	here := []int{st.geo.segmentOf(st.log)}
	if st.ahead != 0 {
		here = append(here, st.geo.segmentOf(st.ahead))
	}
	for _, seg := range st.logs {
		if !slices.Contains(here, seg) {
			b.dropped = append(b.dropped, seg)
		}
	}
	st.nodes, st.logs = nodes, here
	st.prev, st.gen, st.blocks = c.sum, b.gen, 0
	return nil
}

// finish writes and flushes the pending batch.
func (st *store) finish(ctx context.Context) error {
	b, dev := st.pending, st.cfg.Device
	for _, w := range b.writes {
		if err := w.do(ctx, dev); err != nil {
			return err
		}
	}
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	if b.ring != nil {
		if err := dev.WriteAt(ctx, b.ring, ringSlot(b.gen), 0); err != nil {
			return err
		}
		if err := dev.Flush(ctx); err != nil {
			return err
		}
		// The copy becomes durable with the next commit, or is made again.
		if err := dev.WriteAt(ctx, b.ring, ringCopy(b.gen), 0); err != nil {
			return err
		}
	}
	st.mu.Lock()
	st.pending, st.durable, st.mark = nil, b.seq, b.mark
	st.commits++
	for _, seg := range b.dropped {
		st.space.turn(seg, segFree)
	}
	owner := st.state
	st.mu.Unlock()
	if len(b.freed) > 0 {
		st.cfg.Retire(func() {
			st.mu.Lock()
			defer st.mu.Unlock()
			owner.space.release(b.freed)
			owner.space.waiting -= int64(len(b.freed))
		})
	}
	return nil
}
