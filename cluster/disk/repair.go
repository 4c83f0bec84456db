package disk

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/family"
)

// A Fix replaces one entry of an object.
type Fix struct {
	// Was is what the object has. If it has something else by now, the fix is
	// out of date, and nothing happens.
	Was Entry
	// Kind is what it gets, and Data, of one block, the content if that is data. Sum is its
	// checksum if who asks has computed it, as Summed says.
	Kind   Kind
	Data   []byte
	Sum    uint32
	Summed bool
}

// Repair replaces entries of any version of an object by what another member of
// its group has, and returns how many it has replaced. Data get new places,
// nothing is overwritten: the object need not become dirty, and blocks that are
// ErrRot or ErrUnfinished are mended. To replace data there is room on a full
// disk. Fixes of neighbours, one after the other, share a write. Entries of versions
// that do not exist any more can be taken away, and not be replaced.
func (d *Disk) Repair(ctx context.Context, id Object, revision uint64, fixes []Fix) (made int, err error) {
	for _, f := range fixes {
		if err := f.check(); err != nil {
			return 0, err
		}
	}
	tree, err := d.tree(ctx, id.Family, revision)
	if err != nil {
		return 0, err
	}
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.gate.Leave()
	for len(fixes) > 0 {
		n := 1
		for first := fixes[0].Was; n < len(fixes); n++ {
			w, piece := fixes[n].Was, first.Block/pieceBlocks
			if w.Version != first.Version || w.Block != first.Block+uint32(n) || w.Block/pieceBlocks != piece {
				break
			}
		}
		k, err := d.repair(ctx, tree, At{id, fixes[0].Was.Version, revision}, fixes[:n])
		if err != nil {
			return made, err
		}
		made, fixes = made+k, fixes[n:]
	}
	return made, nil
}

func (f *Fix) check() error {
	switch {
	case f.Was.Block >= MaxObject/BlockSize:
		return fmt.Errorf("a fix of block %d, an object has at most %d: %w", f.Was.Block, MaxObject/BlockSize, block.ErrRange)
	case f.Kind > Hole || f.Was.Kind > Hole:
		return fmt.Errorf("a fix from %v to %v: %w", f.Was.Kind, f.Kind, block.ErrInvalid)
	case f.Kind == Data && len(f.Data) != BlockSize:
		return fmt.Errorf("a fix has %d bytes of data, expected %d: %w", len(f.Data), BlockSize, block.ErrInvalid)
	}
	return nil
}

// repair carries out fixes of neighbours in one piece.
func (d *Disk) repair(ctx context.Context, tree *family.Tree, at At, fixes []Fix) (made int, err error) {
	// What versions have that are gone can always be taken away.
	if slices.ContainsFunc(fixes, func(f Fix) bool { return f.Kind != None }) {
		if err := exists(tree, at); err != nil {
			return 0, err
		}
	}
	r, err := d.hold(at, tree)
	if err != nil {
		return 0, err
	}
	defer r.end()
	if err := d.throttle(ctx); err != nil {
		return 0, err
	}
	first := fixes[0].Was.Block
	lock, err := r.lock(ctx, int64(first)*BlockSize, int64(len(fixes))*BlockSize)
	if err != nil {
		return 0, err
	}
	defer lock.Unlock()
	if fixes, err = r.current(fixes); err != nil || len(fixes) == 0 {
		return 0, err
	}
	pl := plans.Get().(*plan)
	defer plans.Put(pl)
	buf := buffers.Get().(*[chunkSize]byte)
	defer buffers.Put(buf)
	content, privilege := contentOf(fixes, buf[:0])
	n := 0
	for i := range fixes {
		if f := &fixes[i]; f.Kind == Data {
			pl.data[n], pl.fresh[n] = false, true
			if pl.sums[n] = f.Sum; !f.Summed {
				pl.sums[n] = checksum(f.Data)
			}
			n++
		}
	}
	if err := r.takePlaces(ctx, pl, n, privilege); err != nil {
		return 0, err
	}
	_, err = r.writeSlab(ctx, pl, content)
	d.slabChanges.Add(1)
	if err == nil {
		err = r.exchange(pl, fixes)
	}
	if err != nil {
		r.returnPlaces(pl, n)
		return 0, err
	}
	d.changes.Add(1)
	d.stats.repaired.Add(uint64(len(fixes)))
	return len(fixes), nil
}

// contentOf is the content of fixes, one block after the other, in buf unless they lie so
// already. Replaces tells whether all that is to be data has been so before.
func contentOf(fixes []Fix, buf []byte) (content []byte, replaces bool) {
	replaces = true
	for i := range fixes {
		f := &fixes[i]
		if f.Kind != Data {
			continue
		}
		replaces = replaces && f.Was.Kind == Data
		n := len(content)
		switch {
		case n == 0:
			content = f.Data
		case n+BlockSize <= cap(content) && &content[:n+1][n] == &f.Data[0]:
			content = content[:n+BlockSize]
		default:
			if &content[0] != &buf[:1][0] {
				content = append(buf, content...)
			}
			content = append(content, f.Data...)
		}
	}
	return content, replaces
}

// current returns the fixes that are not out of date.
func (r *request) current(fixes []Fix) (list []Fix, err error) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	piece, _ := pieceOf(fixes[0].Was.Block)
	v, err := r.d.view(r.o, piece, r.at.Version)
	if err != nil {
		return nil, err
	}
	for _, f := range fixes {
		_, i := pieceOf(f.Was.Block)
		if v.entry(i) == f.Was && (f.Kind == Data || f.Kind != f.Was.Kind) {
			list = append(list, f)
		}
	}
	return list, nil
}

// exchange makes fixes what the version has.
func (r *request) exchange(pl *plan, fixes []Fix) error {
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	piece, _ := pieceOf(fixes[0].Was.Block)
	t, err := d.tally(o, r.at.Version)
	if err != nil {
		return err
	}
	v, err := d.view(o, piece, r.at.Version)
	if err != nil {
		return err
	}
	n := 0
	for _, f := range fixes {
		_, i := pieceOf(f.Was.Block)
		var place uint64
		var sum uint32
		if f.Kind == Data {
			place, sum = pl.places[n], pl.sums[n]
			n++
		}
		d.set(o, v, t, i, f.Kind, place, sum, false)
	}
	o.drop(piece, 0)
	o.head.Counter++
	return nil
}
