package disk

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// Raw reads what one version has at a block, and returns the entry. p, of one
// block, gets the content of data as it is on the slab, whether it has its
// checksum or not: what is left of an unfinished write, which is the state that
// all members get if none has another.
func (d *Disk) Raw(ctx context.Context, id Object, version uint64, at uint32, p []byte) (Entry, error) {
	if len(p) != BlockSize {
		return Entry{}, fmt.Errorf("room for %d bytes, expected %d: %w", len(p), BlockSize, block.ErrInvalid)
	}
	var one [1]Entry
	list, err := d.RawBlocks(ctx, id, version, at, p, one[:0])
	if err != nil {
		return Entry{}, err
	}
	return list[0], nil
}

// RawBlocks is Raw for as many blocks from one on as there is room for in p, at
// most 1 MiB, and appends an entry for each to list. p is left as it is where there
// are no data. What follows each other on the slab is read at once.
func (d *Disk) RawBlocks(ctx context.Context, id Object, version uint64, from uint32, p []byte, list []Entry) ([]Entry, error) {
	if len(p) == 0 || len(p)%BlockSize != 0 || len(p) > chunkSize {
		return list, fmt.Errorf("room for %d bytes, expected blocks of %d, and %d at most: %w", len(p), BlockSize, chunkSize, block.ErrInvalid)
	}
	off, n := int64(from)*BlockSize, len(p)/BlockSize
	if err := checkRange(off, int64(len(p))); err != nil {
		return list, err
	}
	if err := d.enter(); err != nil {
		return list, err
	}
	defer d.gate.Leave()
	r, err := d.hold(At{Object: id, Version: version}, nil)
	if err != nil {
		return list, err
	}
	defer r.end()
	lock, err := r.rlock(ctx, off, int64(len(p)))
	if err != nil {
		return list, err
	}
	defer lock.Unlock()
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	if list, err = r.ownEntries(pl, from, n, list); err != nil {
		return list, err
	}
	for i := 0; i < n; {
		j := i + 1
		for pl.data[i] && j < n && pl.data[j] && pl.places[j] == pl.places[j-1]+1 {
			j++
		}
		if pl.data[i] {
			if err := d.readSlab(ctx, p[i*BlockSize:j*BlockSize], pl.places[i]); err != nil {
				return list, err
			}
		}
		i = j
	}
	return list, nil
}

// ownEntries appends what the version has at n blocks, and finds out where they
// are.
func (r *request) ownEntries(pl *plan, first uint32, n int, list []Entry) ([]Entry, error) {
	if err := r.ownBlocks(pl, first, n); err != nil {
		return list, err
	}
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	for k := range n {
		piece, i := pieceOf(first + uint32(k))
		v, err := r.d.view(r.o, piece, r.at.Version)
		if err != nil {
			return list, err
		}
		list = append(list, v.entry(i))
	}
	return list, nil
}

// Verify reads all data of an object, those of all versions, and calls report
// with each block that cannot be read or does not have its checksum. It goes on
// until report returns false.
func (d *Disk) Verify(ctx context.Context, id Object, report func(*BlockError) (more bool)) error {
	for from, more := uint16(0), true; more; {
		stopped := false
		var err error
		from, more, err = d.VerifyFrom(ctx, id, from, maxPieces, func(e *BlockError) bool {
			stopped = !report(e)
			return !stopped
		})
		if err != nil || stopped {
			return err
		}
	}
	return nil
}

// VerifyFrom is Verify for up to limit pieces of 64 KiB from one on, and returns where
// to go on, if there are more.
func (d *Disk) VerifyFrom(ctx context.Context, id Object, from uint16, limit int, report func(*BlockError) (more bool)) (next uint16, more bool, err error) {
	if err := d.enter(); err != nil {
		return from, false, err
	}
	defer d.gate.Leave()
	r, err := d.hold(At{Object: id}, nil)
	if err != nil {
		return from, false, err
	}
	defer r.end()
	for piece, err := range r.piecesFrom(from) {
		if err != nil {
			return piece, false, err
		}
		if limit--; limit < 0 {
			return piece, true, nil
		}
		if more, err := r.verifyPiece(ctx, piece, report); err != nil || !more {
			return piece, true, err
		}
	}
	return maxPieces, false, nil
}

// verifyPiece is Verify for a piece.
func (r *request) verifyPiece(ctx context.Context, piece uint16, report func(*BlockError) bool) (more bool, err error) {
	lock, err := r.rlock(ctx, int64(piece)*pieceSize, pieceSize)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	for limit := ^uint64(0); limit != 0; {
		var list []placed
		if list, limit, err = r.entriesFrom(piece, limit); err != nil {
			return false, err
		}
		for len(list) > 0 {
			n := 1
			for list[0].Kind == Data && n < len(list) && n < chunkBlocks && list[n].Kind == Data && list[n].place == list[n-1].place+1 {
				n++
			}
			if list[0].Kind == Data {
				if more, err := r.verifyRun(ctx, list[:n], report); err != nil || !more {
					return false, err
				}
			}
			list = list[n:]
		}
	}
	return true, nil
}

// verifyRun is Verify for data that follow each other on the slab.
func (r *request) verifyRun(ctx context.Context, list []placed, report func(*BlockError) bool) (more bool, err error) {
	buf := buffers.Get().(*[chunkSize]byte)
	defer buffers.Put(buf)
	all := r.d.readSlab(ctx, buf[:len(list)*BlockSize], list[0].place)
	for i, e := range list {
		p, err := buf[i*BlockSize:(i+1)*BlockSize], all
		if all != nil && len(list) > 1 {
			err = r.d.readSlab(ctx, p, e.place)
		}
		if err != nil && context.Cause(ctx) != nil {
			return false, context.Cause(ctx)
		}
		if err == nil && checksum(p) == e.Sum {
			continue
		}
		bad := &BlockError{Object: r.o.Object, Version: e.Version, Block: e.Block, Sum: e.Sum, Err: err}
		if err == nil {
			r.o.mu.Lock()
			bad = r.d.wrongSum(r.o, e.Version, e.Block, e.Sum)
			r.o.mu.Unlock()
		}
		if !report(bad) {
			return false, nil
		}
	}
	return true, nil
}
