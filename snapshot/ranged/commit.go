package ranged

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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
	// images are the blocks of the last checkpoint that are no nodes, logs
	// the segments of the log since then, with that ahead.
	images []int64
	logs   []int
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
	seq, mark uint64
	writes    []write
	freed     []int64
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

// add adds a block, to the last write if it follows.
func (b *batch) add(off int64, block []byte) {
	if n := len(b.writes); n > 0 && b.writes[n-1].off+int64(len(b.writes[n-1].b)) == off {
		b.writes[n-1].b = append(b.writes[n-1].b, block...)
		return
	}
	b.writes = append(b.writes, write{off, block})
}

// maxLogBytes bounds the log, which is read when the store is loaded.
const maxLogBytes = 64 << 20

func (st *store) maxLogs() int {
	if st.tight {
		return 2
	}
	return int(max(min(st.geo.segments/16, maxLogBytes/st.geo.segment), 3))
}

// errFull says that the log has no room for a commit.
var errFull = errors.New("the log is full")

func (st *store) Commit(ctx context.Context, token uint64) error {
	st.turn.Lock()
	err := st.commit(ctx, token)
	st.turn.Unlock()
	full := errors.Is(err, errFull)
	if !full && (err != nil || !st.over()) {
		if err == nil {
			st.assist(ctx, token)
		}
		return err
	}
	st.making.Lock()
	defer st.making.Unlock()
	if full || st.over() {
		// If it was only for the memory the commit is durable, whatever
		// becomes of the checkpoint. Step tries again, and tells.
		if e := st.checkpoint(ctx, token); full {
			return e
		}
	}
	return err
}

// assist goes on with the draft if more changes meanwhile than the background
// can keep up with, so that nobody has to wait for all of it. Step tells what
// went wrong.
func (st *store) assist(ctx context.Context, token uint64) {
	st.mu.RLock()
	behind := st.frozen != nil && st.changed() > st.memLimit()*3/2
	st.mu.RUnlock()
	if behind && st.making.TryLock() {
		defer st.making.Unlock()
		if st.draft != nil {
			// Who gives up a flush must not give up the draft.
			_ = st.further(context.WithoutCancel(ctx), token, assistance)
		}
	}
}

// assistance is how many records of a draft a commit looks at.
const assistance = 4096

// over reports whether the memtables take all that they may: the background
// cannot keep up.
func (st *store) over() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.changed() > 2*st.memLimit()
}

// changed returns the memory of the memtables. The caller has mu.
func (st *store) changed() int64 {
	n := st.mem.bytes
	if st.frozen != nil {
		n += st.frozen.bytes
	}
	return n
}

// commit makes durable what is staged, by a commit in the log.
func (st *store) commit(ctx context.Context, token uint64) error {
	if err := st.prepare(ctx, token); err != nil {
		return err
	}
	st.mu.Lock()
	// A draft that is a commit itself must be installed before others follow.
	made := (st.draft == nil || !st.draft.whole) && st.makeBatch()
	st.mu.Unlock()
	switch {
	case !made:
		return errFull
	case st.pending == nil:
		return st.cfg.Device.Flush(ctx)
	}
	return st.finish(ctx)
}

// prepare ends what an earlier commit has begun.
func (st *store) prepare(ctx context.Context, token uint64) error {
	if err := st.fence(ctx, token); err != nil || st.pending == nil {
		return err
	}
	return st.finish(ctx)
}

// fence refuses to write when another one with a greater token has.
func (st *store) fence(ctx context.Context, token uint64) error {
	if token = cmp.Or(token, st.token); !st.fenced && token != 0 {
		b := make([]byte, blockSize)
		if err := st.cfg.Device.ReadAt(ctx, b, st.log, 0); err != nil {
			return err
		}
		f, ok := st.geo.parseFrame(b, logMagic, st.log)
		st.fenced = token < st.token || ok && f.prev == st.prev && f.token > token
		if err := st.cfg.Device.ReadAt(ctx, b, ringSlot(st.gen+1), 0); err != nil {
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

// makeBatch makes a commit of what is staged, unless the log is full.
func (st *store) makeBatch() bool {
	if len(st.staged.b) == 0 && st.mark >= st.sums {
		return true
	}
	b := &batch{seq: st.seq + 1, mark: st.durable, freed: st.space.freed}
	if !st.makeLog(b) {
		return false
	}
	st.pending = b
	st.staging(b.seq)
	return true
}

// staging notes that what was staged is a part of commit seq.
func (st *store) staging(seq uint64) {
	if st.data {
		st.sums = seq
	}
	st.seq, st.data = seq, false
	st.space.waiting += int64(len(st.space.freed))
	st.staged.b, st.space.freed = nil, nil
}

// makeLog makes blocks of the log. It reports whether the log has room.
func (st *store) makeLog(b *batch) bool {
	p := st.staged.b
	n := max((int64(len(p))+payload-1)/payload, 1)
	addr, ahead, prev := st.log, st.ahead, st.prev
	var logs []int
	if st.tight && st.blocks+n > 4 {
		return false
	}
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
	st.mu.Lock()
	st.pending, st.durable, st.mark = nil, b.seq, b.mark
	st.commits++
	st.mu.Unlock()
	st.retire(b.freed)
	return nil
}

// retire makes places free when nobody reads them any more.
func (st *store) retire(freed []int64) {
	if len(freed) == 0 {
		return
	}
	owner := st.state
	st.cfg.Retire(func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		owner.space.releaseAll(freed)
		owner.space.waiting -= int64(len(freed))
	})
}
