package disk

import (
	"context"
	"fmt"
	"iter"
	"math/bits"

	"github.com/strata-storage/strata/cluster/family"
)

// A Cursor says how far a deletion has come: all objects with smaller indexes,
// and pieces of 64 KiB of the one with this index, have been looked at. The zero
// Cursor is the beginning. It means the same on all disks.
type Cursor struct {
	Index uint64
	Piece uint16
}

// A Step is what one step of a deletion has done.
type Step struct {
	// Next is where to go on. Done: there is nothing left to look at.
	Next Cursor
	Done bool
	// Freed counts the entries that nobody needed, Moved those that have become
	// a descendant's, Kept those that at least two descendants need.
	Freed, Moved, Kept int
	// Objects counts those that have been looked at to their end, Skipped those of
	// them that were not admitted.
	Objects, Skipped int
}

// Admit says whether an object may be looked at now, and if so is told when that is
// over.
type Admit func(ctx context.Context, o Object) (leave func(), ok bool, err error)

// Delete goes on with the deletion of a doomed version from a cursor on, and
// looks at up to limit pieces of 64 KiB. Entries that no version needs any more,
// that is no descendant reads, are freed; one that a single child needs becomes
// the child's; one that more children need stays, until some of them are deleted
// and the version is looked at again.
//
// A step is durable after a later Flush: call that before you store the cursor.
// One deletion in a family at a time; when it has been done on all disks and has
// kept nothing, the version can be taken out of the tree.
func (d *Disk) Delete(ctx context.Context, fid, version, revision uint64, from Cursor, limit int) (Step, error) {
	// Which objects have something is known from the metadata. A doomed version gets
	// nothing while it is deleted, so that it is known for all steps.
	if from == (Cursor{}) {
		if err := d.Flush(ctx); err != nil {
			return Step{Next: from}, err
		}
	}
	return d.DeleteWhere(ctx, fid, version, revision, from, limit, nil)
}

// DeleteWhere is Delete for the objects that admit, which may be nil, admits, of those
// in which the version had something when the last flush began.
func (d *Disk) DeleteWhere(ctx context.Context, fid, version, revision uint64, from Cursor, limit int, admit Admit) (Step, error) {
	step := Step{Next: from}
	tree, err := d.tree(ctx, fid, revision)
	if err == nil {
		err = exists(tree, At{Object{Family: fid}, version, revision})
	}
	if err != nil {
		return step, err
	}
	if err := d.enter(); err != nil {
		return step, err
	}
	defer d.gate.Leave()
	if v, _ := tree.Version(version); !v.Doomed {
		return step, fmt.Errorf("version %d of family %d is not doomed at revision %d: %w", version, fid, tree.Revision(), ErrVersion)
	}
	for limit > 0 {
		o, found, err := d.nextTally(Object{fid, step.Next.Index}, version)
		if err != nil {
			return step, err
		}
		if !found {
			step.Done = true
			return step, nil
		}
		if o.Index != step.Next.Index {
			step.Next = Cursor{Index: o.Index}
		}
		if limit, err = d.deleteAdmitted(ctx, o, version, tree, &step, limit, admit); err != nil {
			return step, err
		}
	}
	return step, nil
}

// deleteAdmitted looks at pieces of an object if it is admitted.
func (d *Disk) deleteAdmitted(ctx context.Context, o Object, version uint64, tree *family.Tree, step *Step, limit int, admit Admit) (int, error) {
	if admit == nil {
		return d.deleteFrom(ctx, o, version, tree, step, limit)
	}
	leave, ok, err := admit(ctx, o)
	if err != nil {
		return limit, err
	}
	if !ok {
		step.Skipped++
		step.pass(o)
		return limit - 1, nil
	}
	defer leave()
	return d.deleteFrom(ctx, o, version, tree, step, limit)
}

// pass goes on behind an object.
func (s *Step) pass(o Object) {
	s.Objects++
	if s.Done = o.Index == ^uint64(0); s.Done {
		// There is nothing behind it.
		s.Next.Piece = maxPieces
		return
	}
	s.Next = Cursor{Index: o.Index + 1}
}

// nextTally returns the object from one on of which the version has something.
func (d *Disk) nextTally(from Object, version uint64) (o Object, found bool, err error) {
	end := Object{from.Family, ^uint64(0)}
	hi := append(tallyKey(nil, end, version), 0)
	err = d.meta.scan(d.meta.db, tallyKey(nil, from, version), hi, func(key, _ []byte) (bool, error) {
		found = true
		o, _, err = parseTallyKey(key)
		return false, err
	})
	return o, found, err
}

// deleteFrom looks at pieces of one object. It returns what is left of limit.
func (d *Disk) deleteFrom(ctx context.Context, id Object, version uint64, tree *family.Tree, step *Step, limit int) (int, error) {
	r, err := d.hold(At{Object: id, Version: version}, tree)
	if err != nil {
		return limit, err
	}
	defer r.end()
	for {
		list, more, err := r.pieces(step.Next.Piece)
		if err != nil {
			return limit, err
		}
		for _, piece := range list {
			if limit == 0 {
				return 0, nil
			}
			if err := r.deletePiece(ctx, piece, step); err != nil {
				return limit, err
			}
			step.Next.Piece = piece + 1
			limit--
		}
		if !more {
			break
		}
	}
	if step.pass(id); step.Done {
		return 0, nil
	}
	return limit, nil
}

// Objects lists the objects of which a version has something, in the order of their
// indexes, as the last flush has left it.
func (d *Disk) Objects(ctx context.Context, fid, version uint64) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := d.enter(); err != nil {
			yield(Object{}, err)
			return
		}
		defer d.gate.Leave()
		stopped := false
		first, last := Object{Family: fid}, Object{fid, ^uint64(0)}
		err := d.meta.scan(d.meta.db, tallyKey(nil, first, version), append(tallyKey(nil, last, version), 0), func(key, _ []byte) (bool, error) {
			if err := context.Cause(ctx); err != nil {
				return false, err
			}
			o, _, err := parseTallyKey(key)
			if err == nil {
				stopped = !yield(o, nil)
			}
			return !stopped, err
		})
		if err != nil && !stopped {
			yield(Object{}, err)
		}
	}
}

// deletePiece looks at one piece.
func (r *request) deletePiece(ctx context.Context, piece uint16, step *Step) error {
	if err := r.d.throttle(ctx); err != nil {
		return err
	}
	lock, err := r.lock(ctx, int64(piece)*pieceSize, pieceSize)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	v, err := d.view(o, piece, r.at.Version)
	if err != nil || v.has == 0 {
		return err
	}
	f := &fate{d: d, o: o, tree: r.tree, piece: piece}
	n, err := f.needs(r.at.Version, v.has, 0)
	if err != nil {
		return err
	}
	todo := v.has &^ n.more
	step.Kept += bits.OnesCount16(n.more)
	if todo == 0 {
		return nil
	}
	step.Moved += bits.OnesCount16(n.once)
	step.Freed += bits.OnesCount16(todo &^ n.once)
	err = f.carryOut(v, todo, &n)
	o.drop(piece, 0)
	o.head.Counter++
	d.changes.Add(1)
	return err
}

// A fate is what becomes of the entries of a version in a piece.
type fate struct {
	d     *Disk
	o     *object
	tree  *family.Tree
	piece uint16
}

// need says which blocks are needed by one, and which by more than one. Of the
// former, heirs are the views of those who get them.
type need struct {
	once, more uint16
	heirs      [pieceBlocks]*view
}

// maxDoomed is how many doomed versions in a row are looked through for someone
// who needs a block; beyond that, the next one is taken for him.
const maxDoomed = 32

// needs finds out who needs some blocks of a version.
func (f *fate) needs(version uint64, blocks uint16, depth int) (n need, err error) {
	for _, child := range f.tree.Children(version) {
		v, err := f.d.view(f.o, f.piece, child)
		if err != nil {
			return need{}, err
		}
		lacks := blocks &^ n.more &^ v.has
		if lacks == 0 {
			continue
		}
		below := need{more: lacks}
		if c, _ := f.tree.Version(child); c.Doomed && depth < maxDoomed {
			if below, err = f.needs(child, lacks, depth+1); err != nil {
				return need{}, err
			}
		}
		all := below.once | below.more
		first := all &^ n.once
		n.more |= all & n.once
		n.once = n.once&^all | first
		for ; first != 0; first &= first - 1 {
			i := bits.TrailingZeros16(first)
			// What several below the child need becomes the child's.
			if n.heirs[i] = v; below.once&(1<<i) != 0 {
				n.heirs[i] = below.heirs[i]
			}
		}
		if blocks&^n.more == 0 {
			break
		}
	}
	return n, nil
}

// carryOut frees entries, or gives them to their heirs.
func (f *fate) carryOut(v *view, todo uint16, n *need) error {
	d, o := f.d, f.o
	t, err := d.tally(o, v.version)
	if err != nil {
		return err
	}
	below, err := d.below(f.tree, o, v, todo)
	if err != nil {
		return err
	}
	for left := todo; left != 0; left &= left - 1 {
		i := bits.TrailingZeros16(left)
		bit := uint16(1) << i
		kind, place, sum := v.kind(i), v.places[i], v.sums[i]
		heir := n.heirs[i]
		if n.once&bit == 0 || kind == Hole && below&bit == 0 {
			d.set(o, v, t, i, None, 0, 0, false)
			continue
		}
		ht, err := d.tally(o, heir.version)
		if err != nil {
			return err
		}
		d.set(o, v, t, i, None, 0, 0, true)
		d.set(o, heir, ht, i, kind, place, sum, false)
	}
	return f.unhide(v.version, todo&^below)
}

// unhide removes holes of descendants that have hidden what is not there any
// more: nothing is under them now.
func (f *fate) unhide(version uint64, blocks uint16) error {
	if blocks == 0 {
		return nil
	}
	for _, child := range f.tree.Children(version) {
		v, err := f.d.view(f.o, f.piece, child)
		if err != nil {
			return err
		}
		holes := v.has &^ v.data & blocks
		rest := blocks &^ v.has
		if holes != 0 {
			t, err := f.d.tally(f.o, child)
			if err != nil {
				return err
			}
			for left := holes; left != 0; left &= left - 1 {
				f.d.set(f.o, v, t, bits.TrailingZeros16(left), None, 0, 0, false)
			}
		}
		if c, _ := f.tree.Version(child); c.Doomed {
			if err := f.unhide(child, rest); err != nil {
				return err
			}
		}
	}
	return nil
}
