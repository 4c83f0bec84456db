package replica

import (
	"context"

	"github.com/strata-storage/strata/cluster/disk"
)

// forget removes objects of families that do not exist any more, which nobody could tell
// the disk to delete while it was away. No family is ever called like them again.
//
// Entries of versions that do not exist any more need nothing special: where the disk
// pulls from there are none, so they are removed like others that it should not have.
func (m *Member) forget(ctx context.Context, group int) error {
	first, last := m.rangeOf(group)
	var gone []disk.Object
	for s, err := range m.c.Disk.List(ctx, first, last) {
		if err != nil {
			return err
		}
		if m.c.Agreed.Copies(s.Family) == 0 {
			gone = append(gone, s.Object)
		}
	}
	for _, o := range gone {
		if err := m.c.Disk.Remove(ctx, o); err != nil {
			return err
		}
	}
	return nil
}
