package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/block"
)

// buffers are for writes that do not begin and end with a block.
var buffers = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Write makes p what the version has at off. The version must be one without
// children. Blocks that are written in part get the rest from what the version
// reads there. A write that has failed leaves what one of a block.Device leaves:
// sectors with their old and with their new content. If the slab cannot be read
// then, blocks that it was to overwrite are ErrUnfinished until they are written
// as a whole.
func (d *Disk) Write(ctx context.Context, at At, p []byte, off int64) error {
	r, err := d.beginChange(ctx, at, off, int64(len(p)))
	if err != nil || r.o == nil {
		return err
	}
	defer r.end()
	lock, err := r.lock(ctx, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	for len(p) > 0 {
		if err := d.throttle(ctx); err != nil {
			return err
		}
		if off%BlockSize == 0 && len(p) >= BlockSize {
			n := min(len(p)&^(BlockSize-1), chunkSize)
			err = r.writeBlocks(ctx, pl, uint32(off/BlockSize), p[:n])
			p, off = p[n:], off+int64(n)
		} else {
			n := min(len(p), chunkSize-int(off%BlockSize))
			err = r.writeParts(ctx, pl, p[:n], off)
			p, off = p[n:], off+int64(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeParts writes a range that does not begin or end with a block.
func (r *request) writeParts(ctx context.Context, pl *plan, p []byte, off int64) error {
	from, end := wholeBlocks(off, int64(len(p)))
	buf := buffers.Get().(*[chunkSize]byte)
	defer buffers.Put(buf)
	b := buf[:end-from]
	last := end - BlockSize
	if off != from {
		if err := r.readBlocks(ctx, pl, uint32(from/BlockSize), b[:BlockSize]); err != nil {
			return err
		}
	}
	if off+int64(len(p)) != end && (last != from || off == from) {
		if err := r.readBlocks(ctx, pl, uint32(last/BlockSize), b[last-from:]); err != nil {
			return err
		}
	}
	copy(b[off-from:], p)
	return r.writeBlocks(ctx, pl, uint32(from/BlockSize), b)
}

// writeBlocks writes whole blocks, at most a chunk: to the places that the
// version has, and to new ones.
func (r *request) writeBlocks(ctx context.Context, pl *plan, first uint32, p []byte) error {
	n := len(p) / BlockSize
	if err := r.ownBlocks(pl, first, n); err != nil {
		return err
	}
	if err := r.takePlaces(ctx, pl, n, false); err != nil {
		return fmt.Errorf("%v: %w", r.at, err)
	}
	return r.store(ctx, pl, first, p)
}

// store writes whole blocks to the places of the plan, and names those.
func (r *request) store(ctx context.Context, pl *plan, first uint32, p []byte) error {
	n := len(p) / BlockSize
	for i := range n {
		pl.sums[i] = checksum(p[i*BlockSize : (i+1)*BlockSize])
	}
	tried, err := r.writeSlab(ctx, pl, p)
	r.d.slabChanges.Add(1)
	if err == nil {
		if err = r.nameBlocks(pl, first, n); err != nil {
			r.d.fail(err)
		}
	} else {
		r.lookAgain(pl, first, tried)
		if errors.Is(err, block.ErrNoSpace) {
			r.d.lookForRoom(0) // it may be the same file system
		}
	}
	r.d.changes.Add(1)
	if err != nil {
		r.returnPlaces(pl, n)
		return fmt.Errorf("%v: %w", r.at, err)
	}
	return nil
}

// lookAgain finds out what a write that has failed has left of n blocks that it
// was to overwrite: that is their content from now on. New places are not named.
func (r *request) lookAgain(pl *plan, first uint32, n int) {
	for i := range n {
		if pl.fresh[i] {
			continue
		}
		// Also if the request is cancelled.
		err := r.d.readSlab(context.Background(), pl.block[:], pl.places[i])
		if err == nil {
			one := &plan{}
			one.places[0], one.sums[0] = pl.places[i], checksum(pl.block[:])
			err = r.nameBlocks(one, first+uint32(i), 1)
		}
		if err != nil {
			r.tear()
		}
	}
}

// ownBlocks finds out which of n blocks the version has itself.
func (r *request) ownBlocks(pl *plan, first uint32, n int) error {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	if _, err := r.d.tally(r.o, r.at.Version); err != nil {
		return err
	}
	for k := 0; k < n; {
		piece, i := pieceOf(first + uint32(k))
		v, err := r.d.view(r.o, piece, r.at.Version)
		if err != nil {
			return err
		}
		for ; i < pieceBlocks && k < n; k, i = k+1, i+1 {
			pl.data[k] = v.kind(i) == Data
			pl.fresh[k] = !pl.data[k]
			pl.places[k] = v.places[i]
		}
	}
	return nil
}

// takePlaces gives places to those of n blocks that need one, with privilege also
// those that are kept for repairs.
func (r *request) takePlaces(ctx context.Context, pl *plan, n int, privilege bool) error {
	retried := false
	for i := 0; i < n; {
		if !pl.fresh[i] || pl.data[i] {
			i++
			continue
		}
		want := 1
		for i+want < n && pl.fresh[i+want] {
			want++
		}
		place, count, err := r.d.space.take(want, privilege)
		if errors.Is(err, block.ErrNoSpace) && !retried {
			retried = true
			if err = r.d.makeRoom(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			r.returnPlaces(pl, i)
			return err
		}
		for ; count > 0; count-- {
			pl.data[i], pl.places[i] = true, place
			i, place = i+1, place+1
		}
	}
	return nil
}

// makeRoom makes what has been freed free: here by a flush, and in the file system
// of the metadata by looking at it again.
func (d *Disk) makeRoom(ctx context.Context) error {
	if err := d.flusher.flush(ctx); err != nil {
		return err
	}
	d.space.waitForTrims()
	d.lookForRoom(0)
	return nil
}

// returnPlaces frees the new places of n blocks.
func (r *request) returnPlaces(pl *plan, n int) {
	for i := range n {
		if pl.fresh[i] && pl.data[i] {
			r.d.space.drop(pl.places[i])
		}
	}
}

// writeSlab writes blocks to their places, and returns how many of them it has
// begun to write.
func (r *request) writeSlab(ctx context.Context, pl *plan, p []byte) (tried int, err error) {
	n := len(p) / BlockSize
	limit := n
	if m := r.d.slab.Info().MaxBlock; m > 0 {
		limit = m / BlockSize
	}
	for i := 0; i < n; {
		j := i + 1
		for j < n && j-i < limit && pl.places[j] == pl.places[j-1]+1 {
			j++
		}
		if err := r.d.slab.WriteAt(ctx, p[i*BlockSize:j*BlockSize], offset(pl.places[i]), 0); err != nil {
			return j, fmt.Errorf("writing the slab: %w", err)
		}
		i = j
	}
	return n, nil
}

// nameBlocks notes where n blocks are now.
func (r *request) nameBlocks(pl *plan, first uint32, n int) error {
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	t, err := d.tally(o, r.at.Version)
	if err != nil {
		return err
	}
	// Nothing may fail once a block has its new place.
	for piece := uint16(first / pieceBlocks); piece <= uint16((first+uint32(n)-1)/pieceBlocks); piece++ {
		if _, err := d.view(o, piece, r.at.Version); err != nil {
			return err
		}
	}
	for k := 0; k < n; {
		piece, i := pieceOf(first + uint32(k))
		o.drop(piece, r.at.Version)
		v, _ := d.view(o, piece, r.at.Version)
		for ; i < pieceBlocks && k < n; k, i = k+1, i+1 {
			d.set(o, v, t, i, Data, pl.places[k], pl.sums[k], false)
		}
	}
	o.head.Counter++
	return nil
}
