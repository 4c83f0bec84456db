package disk

import (
	"context"
	"fmt"
	"sync"
)

const (
	// chunkBlocks is the number of blocks that are read or written at a time.
	chunkBlocks = 256
	chunkSize   = chunkBlocks * BlockSize
)

// A plan says where the blocks of a chunk are.
type plan struct {
	// data: the block has a place; fresh: it is a new one.
	data, fresh [chunkBlocks]bool
	places      [chunkBlocks]uint64
	sums        [chunkBlocks]uint32
	// block is room for one that is needed in part only.
	block [BlockSize]byte
}

var plans = sync.Pool{New: func() any { return new(plan) }}

// Read fills p with what the version has at off: each block of 4 KiB is that of
// the nearest ancestor that has it, and zeros if there is none or it is a hole.
// What does not have its checksum is not returned: the error is a *BlockError
// that names the block and is ErrRot or ErrUnfinished, or what the slab says if
// that cannot read it.
func (d *Disk) Read(ctx context.Context, at At, p []byte, off int64) error {
	r, err := d.begin(ctx, at, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer r.end()
	lock, err := r.rlock(ctx, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	return r.read(ctx, pl, p, off)
}

// read is Read while the range is locked.
func (r *request) read(ctx context.Context, pl *plan, p []byte, off int64) error {
	for len(p) > 0 {
		in := int(off % BlockSize)
		if in != 0 || len(p) < BlockSize {
			if err := r.readBlocks(ctx, pl, uint32(off/BlockSize), pl.block[:]); err != nil {
				return err
			}
			n := copy(p, pl.block[in:])
			p, off = p[n:], off+int64(n)
			continue
		}
		n := min(len(p)&^(BlockSize-1), chunkSize)
		if err := r.readBlocks(ctx, pl, uint32(off/BlockSize), p[:n]); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readBlocks reads whole blocks, at most a chunk.
func (r *request) readBlocks(ctx context.Context, pl *plan, first uint32, p []byte) error {
	n := len(p) / BlockSize
	if err := r.findBlocks(pl, first, n); err != nil {
		return err
	}
	for i := 0; i < n; {
		j := i + 1
		if !pl.data[i] {
			for j < n && !pl.data[j] {
				j++
			}
			clear(p[i*BlockSize : j*BlockSize])
			i = j
			continue
		}
		for j < n && pl.data[j] && pl.places[j] == pl.places[j-1]+1 {
			j++
		}
		if err := r.readRun(ctx, first+uint32(i), p[i*BlockSize:j*BlockSize], pl.places[i], pl.sums[i:j]); err != nil {
			return err
		}
		for ; i < j; i++ {
			if checksum(p[i*BlockSize:(i+1)*BlockSize]) != pl.sums[i] {
				return r.blame(first+uint32(i), pl.sums[i], nil)
			}
		}
	}
	return nil
}

// findBlocks finds out where n blocks are.
func (r *request) findBlocks(pl *plan, first uint32, n int) error {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	for k := 0; k < n; {
		piece, i := pieceOf(first + uint32(k))
		m := min(pieceBlocks-i, n-k)
		v, err := r.d.view(r.o, piece, r.at.Version)
		if err == nil {
			err = r.d.resolve(r.tree, r.o, v, span(i, m))
		}
		if err != nil {
			return err
		}
		for ; m > 0; m-- {
			pl.data[k] = v.shown&(1<<i) != 0
			pl.places[k], pl.sums[k] = v.places[i], v.sums[i]
			k, i = k+1, i+1
		}
	}
	return nil
}

// readRun reads blocks that follow each other, and finds out which of them cannot
// be read if one cannot.
func (r *request) readRun(ctx context.Context, first uint32, p []byte, place uint64, sums []uint32) error {
	err := r.d.readSlab(ctx, p, place)
	if err == nil {
		return nil
	}
	for i := range sums {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err := r.d.readSlab(ctx, p[i*BlockSize:(i+1)*BlockSize], place+uint64(i)); err != nil {
			return r.blame(first+uint32(i), sums[i], err)
		}
	}
	return nil
}

// readSlab reads blocks that follow each other.
func (d *Disk) readSlab(ctx context.Context, p []byte, place uint64) error {
	step := len(p)
	if limit := d.slab.Info().MaxBlock; limit > 0 {
		step = min(step, limit&^(BlockSize-1))
	}
	for off := offset(place); len(p) > 0; {
		n := min(step, len(p))
		if err := d.slab.ReadAt(ctx, p[:n], off, 0); err != nil {
			return fmt.Errorf("reading the slab: %w", err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// blame returns the error about a block that cannot be read, or does not have its
// checksum if err is nil.
func (r *request) blame(block, sum uint32, err error) error {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	owner, oerr := r.d.owner(r.tree, r.o, r.at.Version, block)
	if oerr != nil {
		return oerr
	}
	if err != nil {
		return &BlockError{Object: r.o.Object, Version: owner, Block: block, Sum: sum, Err: err}
	}
	return r.d.wrongSum(r.o, owner, block, sum)
}

// wrongSum is blame if the owner is known. The mutex of the object is held.
func (d *Disk) wrongSum(o *object, owner uint64, block, sum uint32) *BlockError {
	e := &BlockError{Object: o.Object, Version: owner, Block: block, Sum: sum, Err: ErrRot}
	if o.dirty && d.unsettled(o.mark) {
		e.Err = ErrUnfinished
		d.stats.unfinished.Add(1)
	} else {
		d.stats.rot.Add(1)
	}
	return e
}
