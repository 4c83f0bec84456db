package replica

import (
	"context"
	"fmt"
	"math"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// A visit is a request of a writer that has been admitted.
type visit struct {
	pass
	m     *Member
	turns *turns
	r     *Request
}

// enter admits a request to the group of its object.
func (m *Member) enter(ctx context.Context, r *Request) (p pass, err error) {
	if r.Off < 0 || r.Off%disk.BlockSize != 0 || r.Off > disk.MaxObject {
		return p, fmt.Errorf("offset %d in an object, expected blocks of %d: %w", r.Off, disk.BlockSize, block.ErrInvalid)
	}
	copies, _ := record.SplitGroup(r.Group)
	if g := GroupOf(r.Object(), copies, m.c.Groups); g != r.Group {
		return p, fmt.Errorf("object %v in group %#x, it belongs to %#x: %w", r.Object(), r.Group, g, block.ErrInvalid)
	}
	return m.admit(ctx, &r.To)
}

// begin admits a request of a writer.
func (m *Member) begin(ctx context.Context, r *Request) (v visit, err error) {
	p, err := m.enter(ctx, r)
	if err != nil {
		return v, err
	}
	t, err := m.write(ctx, &r.Writer)
	if err != nil {
		p.leave()
		return v, err
	}
	return visit{p, m, t, r}, nil
}

func (v *visit) end() {
	v.turns.leave(v.r.Writer.order())
	v.leave()
}

// at is what the disk calls the object.
func (r *Request) at() disk.At {
	return disk.At{Object: r.Object(), Version: r.Version, Revision: r.Tree}
}

func checkBlocks(n int64) error {
	if n < 0 || n%disk.BlockSize != 0 || n > disk.MaxObject {
		return fmt.Errorf("%d bytes of an object, expected blocks of %d: %w", n, disk.BlockSize, block.ErrInvalid)
	}
	return nil
}

// Read is that of Peer.
func (m *Member) Read(ctx context.Context, r *Request, p []byte) error {
	if r.Generation == 0 {
		return m.readFrozen(ctx, r, p)
	}
	v, err := m.begin(ctx, r)
	if err != nil {
		return err
	}
	defer v.end()
	if v.role != belongs {
		return m.onlyJoins(r)
	}
	return m.c.Disk.Read(ctx, r.at(), p, r.Off)
}

func (m *Member) onlyJoins(r *Request) error {
	return fmt.Errorf("reading from disk %s, which joins group %d: %w", m.c.ID, r.Group, ErrNoMember)
}

// readFrozen reads for somebody who is not attached, from what nobody writes any more.
func (m *Member) readFrozen(ctx context.Context, r *Request, p []byte) error {
	pass, err := m.beginFrozen(ctx, r)
	if err != nil {
		return err
	}
	defer pass.leave()
	return m.still(r.Head, m.c.Disk.Read(ctx, r.at(), p, r.Off))
}

// beginFrozen admits a request of somebody who is not attached, which must leave.
func (m *Member) beginFrozen(ctx context.Context, r *Request) (pass, error) {
	pass, err := m.enter(ctx, r)
	if err != nil {
		return pass, err
	}
	if pass.role != belongs {
		err = m.onlyJoins(r)
	} else {
		err = m.frozen(ctx, r.Head, r.Tree)
	}
	if err != nil {
		pass.leave()
	}
	return pass, err
}

// frozen makes sure that a version is a snapshot, at that revision of the tree or later.
func (m *Member) frozen(ctx context.Context, h Head, tree uint64) error {
	ctx, end := m.bounded(ctx)
	defer end()
	if err := m.c.Agreed.Wait(ctx, coord.Revision(tree)); err != nil {
		return err
	}
	return m.still(h, nil)
}

// still is err, or that a version is no snapshot any more, and what was found out about
// it until now is nothing worth: the disk may have begun to delete it.
func (m *Member) still(h Head, err error) error {
	if err == nil && !m.c.Agreed.Frozen(h) {
		err = fmt.Errorf("version %d of family %d is no snapshot: %w", h.Version, h.Family, block.ErrInvalid)
	}
	return err
}

// Write is that of Peer.
func (m *Member) Write(ctx context.Context, r *Request, p []byte) error {
	if err := checkBlocks(int64(len(p))); err != nil {
		return err
	}
	v, err := m.begin(ctx, r)
	if err != nil {
		return err
	}
	defer v.end()
	if v.role == joins {
		return v.joining.change(ctx, r, int64(len(p)), func() error { return m.c.Disk.Write(ctx, r.at(), p, r.Off) })
	}
	return m.c.Disk.Write(ctx, r.at(), p, r.Off)
}

// Zero is that of Peer.
func (m *Member) Zero(ctx context.Context, r *Request, n int64) error {
	if err := checkBlocks(n); err != nil {
		return err
	}
	v, err := m.begin(ctx, r)
	if err != nil {
		return err
	}
	defer v.end()
	if v.role == joins {
		// What it becomes depends on what ancestors have.
		if err := m.pullFirst(ctx, &v.pass, r); err != nil {
			return err
		}
		return v.joining.change(ctx, r, n, func() error { return m.c.Disk.Zero(ctx, r.at(), r.Off, n) })
	}
	return m.c.Disk.Zero(ctx, r.at(), r.Off, n)
}

// Flush is that of Peer.
func (m *Member) Flush(ctx context.Context, r *Request) error {
	if r.Disk != m.c.ID || r.Incarnation != m.c.Incarnation {
		return fmt.Errorf("this is disk %s in incarnation %s, not %s in %s: %w", m.c.ID, m.c.Incarnation, r.Disk, r.Incarnation, ErrIncarnation)
	}
	t, err := m.write(ctx, &r.Writer)
	if err != nil {
		return err
	}
	defer t.leave(r.Writer.order())
	return m.c.Disk.Flush(ctx)
}

// Standing is that of Peer.
func (m *Member) Standing(ctx context.Context, r *Request) (s Standing, err error) {
	v, err := m.begin(ctx, r)
	if err != nil {
		return s, err
	}
	defer v.end()
	if s.State, err = m.c.Disk.State(ctx, r.Object()); err != nil {
		return s, err
	}
	s.Dirty, s.Unsettled, err = m.dirty(ctx, r.Object())
	return s, err
}

// dirty looks for the mark of an object.
func (m *Member) dirty(ctx context.Context, o disk.Object) (dirty, unsettled bool, err error) {
	for d, err := range m.c.Disk.Dirty(ctx, o.Hash(), o.Hash()) {
		if err != nil {
			return false, false, err
		}
		if d.Object == o {
			return true, d.Unsettled, nil
		}
	}
	return false, false, nil
}

// Verify is that of Peer.
func (m *Member) Verify(ctx context.Context, r *Request) (bad []uint32, err error) {
	v, err := m.begin(ctx, r)
	if err != nil {
		return nil, err
	}
	defer v.end()
	err = m.c.Disk.Verify(ctx, r.Object(), func(b *disk.BlockError) bool {
		if b.Version == r.Version {
			bad = append(bad, b.Block)
		}
		return true
	})
	return bad, err
}

// Fix is that of Peer.
func (m *Member) Fix(ctx context.Context, r *Request, fixes []disk.Fix) (made int, err error) {
	for _, f := range fixes {
		if f.Was.Version != r.Version {
			return 0, fmt.Errorf("a fix of version %d by the writer of version %d: %w", f.Was.Version, r.Version, block.ErrInvalid)
		}
	}
	v, err := m.begin(ctx, r)
	if err != nil {
		return 0, err
	}
	defer v.end()
	if v.role != belongs {
		return 0, fmt.Errorf("a fix on disk %s, which joins group %d: %w", m.c.ID, r.Group, ErrNoMember)
	}
	if err := m.c.Disk.Mark(ctx, r.Object()); err != nil {
		return 0, err
	}
	return m.c.Disk.Repair(ctx, r.Object(), r.Tree, fixes)
}

// Again is that of Peer.
func (m *Member) Again(ctx context.Context, r *Request) error {
	v, err := m.begin(ctx, r)
	if err != nil {
		return err
	}
	defer v.end()
	if v.role != joins {
		return nil
	}
	return v.joining.again(r)
}

// Clear is that of Peer.
func (m *Member) Clear(ctx context.Context, r *Request, s disk.State) (cleared bool, err error) {
	v, err := m.begin(ctx, r)
	if err != nil {
		return false, err
	}
	defer v.end()
	_, unsettled, err := m.dirty(ctx, r.Object())
	unfinished := false
	if err == nil && unsettled {
		err = m.c.Disk.Verify(ctx, r.Object(), func(*disk.BlockError) bool { unfinished = true; return false })
	}
	if err != nil || unfinished {
		return false, err
	}
	return m.c.Disk.Clear(ctx, r.Object(), s)
}

// rangeOf is what hashes the objects of a group have.
func (m *Member) rangeOf(group int) (from, to uint64) {
	_, index := record.SplitGroup(group)
	width := math.MaxUint64/uint64(m.c.Groups) + 1 // 0 is all
	from = uint64(index) * width
	return from, from + width - 1
}

// has reports whether an object whose hash is in the range of a group belongs to it:
// groups of other numbers of copies have the same ranges, and the disk may have them,
// too. A family that this side does not know, or knows no more, is in none.
func (m *Member) has(group int, o disk.Object) bool {
	copies, _ := record.SplitGroup(group)
	return m.c.Agreed.Copies(o.Family) == copies
}

// GroupOf is the group of an object of a family with so many copies, where there are
// so many groups, a power of two, for each number of copies. See record.GroupOf.
func GroupOf(o disk.Object, copies, groups int) int {
	return record.Volume{Copies: copies}.Group(o.Hash(), groups)
}
