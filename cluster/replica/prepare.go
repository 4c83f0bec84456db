package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// Prepare makes the disk ready to join a group again, in which it has no part now: it
// forgets objects of which it has versions that do not exist any more, which nobody
// could tell it to delete while it was away. Call it before Groups.Add.
func (m *Member) Prepare(ctx context.Context, number int, trees disk.Trees) error {
	rec, epoch := m.c.Agreed.Group(number)
	is := func(o record.Member) bool { return o.Disk == m.c.ID && o.Incarnation == m.c.Incarnation }
	if slices.ContainsFunc(slices.Concat(rec.Members, rec.Joining), is) {
		return fmt.Errorf("disk %s has a part in group %d at epoch %d: %w", m.c.ID, number, epoch, block.ErrInvalid)
	}
	first, last := m.rangeOf(number)
	for s, err := range m.c.Disk.List(ctx, first, last) {
		if err != nil {
			return err
		}
		stale, err := m.stale(ctx, s.Object, trees)
		if err == nil && stale {
			err = m.c.Disk.Remove(ctx, s.Object)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stale reports whether an object has entries of versions that do not exist.
func (m *Member) stale(ctx context.Context, o disk.Object, trees disk.Trees) (bool, error) {
	tree, err := trees.Tree(ctx, o.Family, 0)
	if err != nil {
		// There is no such family.
		return true, context.Cause(ctx)
	}
	version := uint64(0)
	for e, err := range m.c.Disk.Entries(ctx, o) {
		if err != nil {
			return false, err
		}
		if e.Version == version {
			continue
		}
		version = e.Version
		if _, ok := tree.Version(version); !ok {
			return true, nil
		}
	}
	return false, nil
}
