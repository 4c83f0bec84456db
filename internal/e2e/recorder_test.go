package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
)

const (
	recordBlock  = 4096
	recordSector = 512
)

// A recorder changes blocks of a disk and notes what must be there after the
// server was killed. Every sector tells the write that it comes from.
type recorder struct {
	mu     sync.Mutex
	number uint64 // of changes
	done   int    // of them, since work was called
	blocks []recorded
	// snapshots are what those that were taken may hold, by their names.
	snapshots map[string][]recorded
}

// recorded is what is known about a block.
type recorded struct {
	// changes that were begun, in their order; those that the durable one
	// has overtaken may be missing.
	changes []change
	acked   uint64 // the last one that has returned
	durable uint64 // the last one that a flush covers
}

// A change is a write, or makes zeros.
type change struct {
	number uint64
	zero   bool
}

// newRecorder is for a disk that reads as zeros.
func newRecorder(blocks int) *recorder {
	r := &recorder{blocks: make([]recorded, blocks), snapshots: map[string][]recorded{}}
	for i := range r.blocks {
		r.blocks[i].changes = []change{{zero: true}}
	}
	return r
}

// work makes requests until they fail, as they do when the server is gone, or
// ctx ends, which interrupts none. It calls kill once when so many changes have
// returned.
func (r *recorder) work(ctx context.Context, dev block.Device, seed uint64, changes int, kill func()) {
	r.done = 0
	const writers = 4
	share := len(r.blocks) / writers
	var wg sync.WaitGroup
	for w := range writers {
		// Every writer has blocks of its own: their changes do not overlap.
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for ctx.Err() == nil {
				n := rnd.IntN(8) + 1
				err := r.change(context.WithoutCancel(ctx), dev, w*share+rnd.IntN(share-n), n, rnd)
				if err == nil && rnd.IntN(20) == 0 {
					err = r.flush(context.WithoutCancel(ctx), dev)
				}
				if err != nil {
					return
				}
				r.mu.Lock()
				r.done++
				if r.done == changes {
					wg.Go(kill)
				}
				r.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// change writes or zeroes n blocks, one time in ten with FUA.
func (r *recorder) change(ctx context.Context, dev block.Device, first, n int, rnd *rand.Rand) error {
	zero, fua := rnd.IntN(8) == 0, rnd.IntN(10) == 0
	r.mu.Lock()
	r.number++
	number := r.number
	for b := range n {
		x := &r.blocks[first+b]
		x.changes = append(x.changes, change{number, zero})
	}
	r.mu.Unlock()

	var flags block.Flags
	if fua {
		flags = block.FUA
	}
	var err error
	if zero {
		err = dev.Zero(ctx, int64(first)*recordBlock, int64(n)*recordBlock, flags)
	} else {
		err = dev.WriteAt(ctx, sectors(first, n, number), int64(first)*recordBlock, flags)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range n {
		x := &r.blocks[first+b]
		x.acked = number
		if fua {
			x.durable = number
		}
	}
	return nil
}

func (r *recorder) flush(ctx context.Context, dev block.Device) error {
	acked := make([]uint64, len(r.blocks))
	r.mu.Lock()
	for b := range r.blocks {
		acked[b] = r.blocks[b].acked
	}
	r.mu.Unlock()
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range r.blocks {
		x := &r.blocks[b]
		x.durable = max(x.durable, acked[b])
	}
	return nil
}

// killed says that the server is gone and that everything that it answered must
// be there, flushed or not.
func (r *recorder) killed() {
	for b := range r.blocks {
		x := &r.blocks[b]
		x.durable = max(x.durable, x.acked)
	}
}

// verify reads the disk of a server that was started anew: every sector must
// come from the last change that was made durable, or from a later one. It
// returns how many blocks hold something durable.
func (r *recorder) verify(ctx context.Context, dev block.Device) (durable int, err error) {
	return r.compare(ctx, dev, func(*recorded) bool { return true })
}

// compare is verify of the disk of another server: changes that are under way
// may still come.
func (r *recorder) compare(ctx context.Context, dev block.Device, over func(*recorded) bool) (durable int, err error) {
	p := make([]byte, len(r.blocks)*recordBlock)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range r.blocks {
		x := &r.blocks[b]
		over := over(x)
		x.changes = x.from(x.durable)
		// A later flush cannot cover what went down with the old server.
		x.acked = x.durable
		if x.durable > 0 {
			durable++
		}
		if err := x.check(b, p); err != nil {
			return 0, err
		}
		if over {
			x.settle(b, p)
		}
	}
	return durable, nil
}

// current compares the disk with what the server that is running has answered,
// flushed or not.
func (r *recorder) current(ctx context.Context, dev block.Device) error {
	p := make([]byte, len(r.blocks)*recordBlock)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range r.blocks {
		now := recorded{changes: r.blocks[b].from(r.blocks[b].acked)}
		if err := now.check(b, p); err != nil {
			return err
		}
	}
	return nil
}

// idle reports whether no change of a block is under way.
func (x *recorded) idle() bool { return x.changes[len(x.changes)-1].number == x.acked }

// from returns the changes from a number on.
func (x *recorded) from(number uint64) []change {
	i, _ := slices.BinarySearchFunc(x.changes, number, func(c change, n uint64) int { return cmp.Compare(c.number, n) })
	return slices.Clone(x.changes[i:])
}

// check looks whether every sector of block b of a disk is that of a change.
func (x *recorded) check(b int, disk []byte) error {
	for off := b * recordBlock; off < (b+1)*recordBlock; off += recordSector {
		if got := disk[off : off+recordSector]; !x.allows(off, got) {
			return fmt.Errorf("the sector at %d holds %x..., which is none of the changes %+v", off, got[:16], x.changes)
		}
	}
	return nil
}

// settle forgets the changes but the one that block b holds, if it is one: the
// others will not come back.
func (x *recorded) settle(b int, disk []byte) {
	for _, c := range slices.Backward(x.changes) {
		one := recorded{changes: []change{c}}
		if one.check(b, disk) == nil {
			x.changes, x.acked, x.durable = one.changes, c.number, c.number
			return
		}
	}
}

// snapshot calls take, which takes a snapshot, and notes what that may hold:
// what was answered before, or what was under way until it returned.
func (r *recorder) snapshot(name string, take func() error) error {
	r.mu.Lock()
	acked := make([]uint64, len(r.blocks))
	for b := range r.blocks {
		acked[b] = r.blocks[b].acked
	}
	r.mu.Unlock()
	if err := take(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	blocks := make([]recorded, len(r.blocks))
	for b := range r.blocks {
		blocks[b].changes = r.blocks[b].from(acked[b])
	}
	r.snapshots[name] = blocks
	return nil
}

// verifySnapshot compares the blocks of a snapshot with what was noted.
func (r *recorder) verifySnapshot(name string, disk []byte) error {
	r.mu.Lock()
	blocks := r.snapshots[name]
	r.mu.Unlock()
	if blocks == nil {
		return fmt.Errorf("snapshot %s was not taken", name)
	}
	for b := range blocks {
		if err := blocks[b].check(b, disk); err != nil {
			return fmt.Errorf("snapshot %s: %w", name, err)
		}
	}
	return nil
}

func (x *recorded) allows(off int, got []byte) bool {
	return slices.ContainsFunc(x.changes, func(c change) bool {
		if c.zero {
			return block.IsZero(got)
		}
		return bytes.Equal(got, sector(off, c.number))
	})
}

// sector is what write number puts at an offset: both, over and over.
func sector(off int, number uint64) []byte {
	var p [16]byte
	binary.BigEndian.PutUint64(p[:8], number)
	binary.BigEndian.PutUint64(p[8:], uint64(off))
	return bytes.Repeat(p[:], recordSector/len(p))
}

func sectors(first, n int, number uint64) []byte {
	var p []byte
	for off := first * recordBlock; off < (first+n)*recordBlock; off += recordSector {
		p = append(p, sector(off, number)...)
	}
	return p
}
