package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// A Deleter is what Delete and Left need of a *disk.Disk; see there.
type Deleter interface {
	DeleteWhere(ctx context.Context, fid, version, revision uint64, from disk.Cursor, limit int, admit disk.Admit) (disk.Step, error)
	Objects(ctx context.Context, fid, version uint64) iter.Seq2[disk.Object, error]
}

var _ Deleter = (*disk.Disk)(nil)

func (m *Member) deleter() (Deleter, error) {
	d, ok := m.c.Disk.(Deleter)
	if !ok {
		return nil, fmt.Errorf("disk %s cannot delete versions: %w", m.c.ID, block.ErrNotSupported)
	}
	return d, nil
}

// Delete goes on with the deletion of a doomed version, see disk.Disk.Delete, in the
// objects of groups of which the disk is a member and that have no joining disks.
// Others are skipped. Each object is looked at as a request of the epoch at which that
// is so: before a disk that joins afterwards pulls anything, it is over.
func (m *Member) Delete(ctx context.Context, family, version uint64, from disk.Cursor, limit int) (disk.Step, error) {
	d, err := m.deleter()
	if err != nil {
		return disk.Step{}, err
	}
	copies := m.c.Agreed.Copies(family)
	return d.DeleteWhere(ctx, family, version, 0, from, limit, func(ctx context.Context, o disk.Object) (func(), bool, error) {
		to := To{Disk: m.c.ID, Incarnation: m.c.Incarnation, Group: GroupOf(o, copies, m.c.Groups)}
		_, to.Epoch = m.c.Agreed.Group(to.Group)
		p, err := m.admit(ctx, &to)
		switch {
		case errors.Is(err, ErrEpoch) || errors.Is(err, ErrNoMember):
			return nil, false, nil
		case err != nil:
			return nil, false, err
		case p.role != belongs || len(p.record.Joining) > 0:
			p.leave()
			return nil, false, nil
		}
		return p.leave, true, nil
	})
}

// Left reports whether a version had something on the disk after the last flush, in groups
// in which the disk has a part.
func (m *Member) Left(ctx context.Context, family, version uint64) (bool, error) {
	d, err := m.deleter()
	if err != nil {
		return false, err
	}
	copies := m.c.Agreed.Copies(family)
	for o, err := range d.Objects(ctx, family, version) {
		if err != nil {
			return false, err
		}
		if m.Takes(GroupOf(o, copies, m.c.Groups)) {
			return true, nil
		}
	}
	return false, nil
}

// Takes reports whether the record of a group, as this side knows it, has the disk in
// this incarnation.
func (m *Member) Takes(group int) bool {
	rec, _ := m.c.Agreed.Group(group)
	for _, o := range rec.Members {
		if o.Disk == m.c.ID && o.Incarnation == m.c.Incarnation {
			return true
		}
	}
	for _, o := range rec.Joining {
		if o.Disk == m.c.ID && o.Incarnation == m.c.Incarnation {
			return true
		}
	}
	return false
}

// Discard removes an object of a group in which the disk has no part, in whatever
// incarnation. It is over before a request of a later epoch begins, in which it may have
// one; the error is ErrEpoch or ErrNoMember if the record is not, or is no more, what was
// expected.
func (m *Member) Discard(ctx context.Context, group int, epoch coord.Revision, o disk.Object) error {
	rec, now := m.c.Agreed.Group(group)
	if now != epoch {
		return &EpochError{group, now}
	}
	g := m.part(group)
	g.turns.mu.Lock()
	if g.turns.number.less(epochOrder(epoch)) {
		m.turn(g, rec, epoch)
	}
	free := g.role == nothing
	g.turns.mu.Unlock()
	for _, x := range rec.Members {
		free = free && x.Disk != m.c.ID
	}
	for _, x := range rec.Joining {
		free = free && x.Disk != m.c.ID
	}
	if !free {
		return fmt.Errorf("disk %s has a part in group %d: %w", m.c.ID, group, ErrNoMember)
	}
	waiting, end := m.bounded(ctx)
	inside, err := g.turns.enter(waiting, epochOrder(epoch))
	end()
	if err != nil {
		return err
	}
	if !inside {
		return &EpochError{Group: group}
	}
	defer g.turns.leave(epochOrder(epoch))
	return m.c.Disk.Remove(ctx, o)
}

// Hashes is what hashes the objects of a group have, both included.
func (m *Member) Hashes(group int) (from, to uint64) { return m.rangeOf(group) }

// Renew makes a member a joining disk: what it has may not be what the others have, and by
// joining again it gets that. The last member stays.
func (s *Groups) Renew(ctx context.Context, number int, m record.Member) (coord.Revision, error) {
	return s.step(ctx, number, func(g *record.Group, epoch coord.Revision) (bool, error) {
		i := slices.Index(g.Members, m)
		if i < 0 {
			return false, nil
		}
		if len(g.Members) == 1 {
			return false, fmt.Errorf("group %d has no member but disk %s: %w", number, m.Disk, ErrTooFew)
		}
		g.Members = slices.Delete(g.Members, i, i+1)
		m.Since = int64(epoch)
		g.Joining = append(g.Joining, m)
		return true, nil
	})
}
