package e2e

import (
	"bytes"
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
	r := &recorder{blocks: make([]recorded, blocks)}
	for i := range r.blocks {
		r.blocks[i].changes = []change{{zero: true}}
	}
	return r
}

// work makes requests until they fail, as they do when the server is gone. It
// calls kill once when so many changes have returned.
func (r *recorder) work(ctx context.Context, dev block.Device, seed uint64, changes int, kill func()) {
	r.done = 0
	const writers = 4
	share := len(r.blocks) / writers
	var wg sync.WaitGroup
	for w := range writers {
		// Every writer has blocks of its own: their changes do not overlap.
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for {
				n := rnd.IntN(8) + 1
				err := r.change(ctx, dev, w*share+rnd.IntN(share-n), n, rnd)
				if err == nil && rnd.IntN(20) == 0 {
					err = r.flush(ctx, dev)
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
	p := make([]byte, len(r.blocks)*recordBlock)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return 0, err
	}
	for b := range r.blocks {
		x := &r.blocks[b]
		x.changes = slices.DeleteFunc(x.changes, func(c change) bool { return c.number < x.durable })
		// A later flush cannot cover what went down with the old server.
		x.acked = x.durable
		if x.durable > 0 {
			durable++
		}
		for off := b * recordBlock; off < (b+1)*recordBlock; off += recordSector {
			if got := p[off : off+recordSector]; !x.allows(off, got) {
				return 0, fmt.Errorf("the sector at %d holds %x..., which is none of the changes %+v from the durable one on", off, got[:16], x.changes)
			}
		}
	}
	return durable, nil
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
