package disk

import (
	"context"
	"time"

	"github.com/strata-storage/strata/block"
)

// What is in memory and in the page cache is read and written by those who must not
// wait, as the goroutine that reads a connection. They do what succeeds; whatever else
// there is to find out is left to Read and Write.

// maxNow bounds what is written without waiting, in blocks.
const maxNow = pieceBlocks

// noWait is the context of those who do not wait.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// ReadNow does what Read does if that can be done without waiting, and reports whether
// it has. If not p has any content.
func (d *Disk) ReadNow(at At, p []byte, off int64) bool {
	if len(p) > chunkSize || !d.slab.Info().NoWait {
		return false
	}
	r, ok := d.beginNow(at, off, int64(len(p)))
	if !ok {
		return false
	}
	defer r.end()
	lock := r.o.locks.TryRLock(off, int64(len(p)))
	if lock == nil {
		return false
	}
	defer lock.Unlock()
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	return r.findNow(pl, uint32(off/BlockSize), len(p)/BlockSize) && r.readNow(pl, p)
}

// beginNow is begin for those who do not wait. The request has to end if it is ok.
func (d *Disk) beginNow(at At, off, n int64) (r request, ok bool) {
	if n == 0 || (off|n)%BlockSize != 0 || checkRange(off, n) != nil {
		return r, false
	}
	tree, err := d.tree(noWait, at.Family, at.Revision)
	if err != nil || exists(tree, at) != nil || d.enter() != nil {
		return r, false
	}
	return request{d: d, o: d.cache.get(at.Object), tree: tree, at: at, gated: true}, true
}

// findNow is findBlocks if it is known where they are.
func (r *request) findNow(pl *plan, first uint32, n int) bool {
	if !r.o.mu.TryLock() {
		return false
	}
	defer r.o.mu.Unlock()
	for k := 0; k < n; {
		piece, i := pieceOf(first + uint32(k))
		m := min(pieceBlocks-i, n-k)
		v := r.o.cached(piece, r.at.Version)
		if !r.o.loaded || v == nil || v.version != r.at.Version || span(i, m)&^v.known != 0 {
			return false
		}
		for ; m > 0; m-- {
			pl.data[k] = v.shown&(1<<i) != 0
			pl.places[k], pl.sums[k] = v.places[i], v.sums[i]
			k, i = k+1, i+1
		}
	}
	return true
}

// readNow reads blocks that have been found.
func (r *request) readNow(pl *plan, p []byte) bool {
	n := len(p) / BlockSize
	limit := r.d.slab.Info().MaxBlock
	for i, j := 0, 0; i < n; i = j {
		j = i + 1
		for j < n && pl.data[j] == pl.data[i] && (!pl.data[j] || pl.places[j] == pl.places[j-1]+1) {
			j++
		}
		b := p[i*BlockSize : j*BlockSize]
		if !pl.data[i] {
			clear(b)
			continue
		}
		if limit > 0 && len(b) > limit || r.d.slab.ReadAt(context.Background(), b, offset(pl.places[i]), block.NoWait) != nil {
			return false
		}
		for k := range j - i {
			if checksum(b[k*BlockSize:(k+1)*BlockSize]) != pl.sums[i+k] {
				return false // Read finds out what that means
			}
		}
	}
	return true
}

// WriteNow does what Write does with whole blocks if that can most likely be done
// without waiting, and reports whether it has. An error is that of Write.
func (d *Disk) WriteNow(at At, p []byte, off int64) (done bool, err error) {
	n := len(p) / BlockSize
	begin := int64(time.Since(d.began))
	if n > maxNow || d.unflushed.Load() > int64(d.cfg.MaxUnflushed/2) || !d.patience.Allows(begin) {
		return false, nil
	}
	r, ok := d.beginNow(at, off, int64(len(p)))
	if !ok {
		return false, nil
	}
	defer r.end()
	lock := r.o.locks.TryLock(off, int64(len(p)))
	if lock == nil {
		return false, nil
	}
	defer lock.Unlock()
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	if !r.changeNow(pl, uint32(off/BlockSize), n) {
		return false, nil
	}
	err = r.store(context.Background(), pl, uint32(off/BlockSize), p)
	d.patience.Charge(begin, int64(time.Since(d.began)))
	return true, err
}

// changeNow is what beginChange, ownBlocks and takePlaces do, if what they need is in
// memory.
func (r *request) changeNow(pl *plan, first uint32, n int) bool {
	if v, _ := r.tree.Version(r.at.Version); v.Doomed || !r.tree.Leaf(r.at.Version) || !r.o.mu.TryLock() {
		return false
	}
	defer r.o.mu.Unlock()
	o := r.o
	if !o.loaded || !r.d.marked(o) {
		return false
	}
	// What a version has for the first time is looked for in the metadata, whose filters
	// tell from memory that it is not there.
	if _, err := r.d.tally(o, r.at.Version); err != nil {
		return false
	}
	for k := 0; k < n; {
		piece, i := pieceOf(first + uint32(k))
		v, err := r.d.view(o, piece, r.at.Version)
		if err != nil {
			return false
		}
		for ; i < pieceBlocks && k < n; k, i = k+1, i+1 {
			pl.data[k] = v.kind(i) == Data
			pl.fresh[k] = !pl.data[k]
			pl.places[k] = v.places[i]
		}
	}
	if !r.takeNow(pl, n) {
		return false
	}
	o.writers++
	o.removed, r.wrote = false, true
	return true
}

// takeNow is takePlaces if there is room.
func (r *request) takeNow(pl *plan, n int) bool {
	for i := 0; i < n; {
		if !pl.fresh[i] || pl.data[i] {
			i++
			continue
		}
		want := 1
		for i+want < n && pl.fresh[i+want] {
			want++
		}
		place, count, err := r.d.space.take(want, false)
		if err != nil {
			r.returnPlaces(pl, i)
			return false
		}
		for ; count > 0; count-- {
			pl.data[i], pl.places[i] = true, place
			i, place = i+1, place+1
		}
	}
	return true
}
