package disk

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/internal/rangelock"
)

// A request is one that is under way: it is inside the gate and holds a
// reference of its object and, for a change, makes it a dirty one.
type request struct {
	d    *Disk
	o    *object
	tree *family.Tree
	at   At
	// wrote: the object counts the request as a writer; gated: it leaves the
	// gate at its end.
	wrote, gated bool
}

// enter admits a call that is not about an object.
func (d *Disk) enter() error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	if err := d.failed(); err != nil {
		d.gate.Leave()
		return err
	}
	return nil
}

// begin admits a request for a range of an object.
func (d *Disk) begin(ctx context.Context, at At, off, n int64) (request, error) {
	if err := checkRange(off, n); err != nil {
		return request{}, err
	}
	// That may wait, and closing must not wait for it.
	tree, err := d.tree(ctx, at.Family, at.Revision)
	if err == nil {
		err = exists(tree, at)
	}
	if err == nil {
		err = d.enter()
	}
	if err != nil {
		return request{}, err
	}
	r, err := d.hold(at, tree)
	if err != nil {
		d.gate.Leave()
		return request{}, err
	}
	r.gated = true
	return r, nil
}

// hold gets the object of a request by somebody who is inside the gate.
func (d *Disk) hold(at At, tree *family.Tree) (request, error) {
	r := request{d: d, o: d.cache.get(at.Object), tree: tree, at: at}
	r.o.mu.Lock()
	err := d.load(r.o)
	r.o.mu.Unlock()
	if err != nil {
		r.end()
		return request{}, err
	}
	return r, nil
}

// tree returns the tree of a family.
func (d *Disk) tree(ctx context.Context, fid, revision uint64) (*family.Tree, error) {
	tree, err := d.cfg.Trees.Tree(ctx, fid, revision)
	if err != nil {
		return nil, err
	}
	if tree.Revision() < revision {
		return nil, fmt.Errorf("the tree of family %d has revision %d, expected %d at least: %w", fid, tree.Revision(), revision, block.ErrInvalid)
	}
	return tree, nil
}

// exists refuses versions that are not in the tree.
func exists(tree *family.Tree, at At) error {
	if _, ok := tree.Version(at.Version); !ok {
		return fmt.Errorf("family %d has no version %d at revision %d: %w", at.Family, at.Version, tree.Revision(), ErrVersion)
	}
	return nil
}

// beginChange is begin for a change. It returns when the object's mark is
// durable. If there is nothing to change, it returns a request without an object,
// which needs no end.
func (d *Disk) beginChange(ctx context.Context, at At, off, n int64) (request, error) {
	r, err := d.begin(ctx, at, off, n)
	if err != nil {
		return request{}, err
	}
	switch v, _ := r.tree.Version(at.Version); {
	case v.Doomed || !r.tree.Leaf(at.Version):
		err = fmt.Errorf("version %d of family %d cannot be written, it is a snapshot or doomed at revision %d: %w", at.Version, at.Family, r.tree.Revision(), ErrVersion)
	case n == 0:
		r.end()
		return request{}, nil
	default:
		err = d.throttle(ctx)
	}
	if err == nil {
		err = r.markDirty(ctx)
	}
	if err != nil {
		r.end()
		return request{}, err
	}
	return r, nil
}

// end must be called once.
func (r *request) end() {
	if r.wrote {
		r.o.mu.Lock()
		r.o.writers--
		r.o.mu.Unlock()
	}
	r.d.cache.put(r.o)
	if r.gated {
		r.d.gate.Leave()
	}
}

// lock keeps others from the blocks that a range touches.
func (r *request) lock(ctx context.Context, off, n int64) (*rangelock.Range, error) {
	from, end := wholeBlocks(off, n)
	return r.o.locks.Lock(ctx, from, end-from)
}

// rlock shares the blocks that a range touches with other readers.
func (r *request) rlock(ctx context.Context, off, n int64) (*rangelock.Range, error) {
	from, end := wholeBlocks(off, n)
	return r.o.locks.RLock(ctx, from, end-from)
}

// wholeBlocks widens a range to blocks.
func wholeBlocks(off, n int64) (from, end int64) {
	return off &^ (BlockSize - 1), (off + n + BlockSize - 1) &^ (BlockSize - 1)
}

// pieceOf returns where a block is.
func pieceOf(b uint32) (piece uint16, i int) { return uint16(b / pieceBlocks), int(b % pieceBlocks) }

// span returns the mask of blocks i to i+n-1 of a piece.
func span(i, n int) uint16 { return uint16((1<<n - 1) << i) }
