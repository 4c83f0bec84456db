package replica

import (
	"context"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// A loss is that a group was revived, some time after that moment.
type loss struct {
	begin int64
	group int
}

// revivals is a store that knows when groups are revived: what was not flushed then may
// be lost.
type revivals struct {
	coord.Store
	s *sim
}

// Txn is that of coord.Store.
func (r revivals) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	begin := r.s.now()
	result, err := r.Store.Txn(ctx, t)
	for _, op := range t.Then {
		k, bad := record.ParseKey(op.Key)
		if bad != nil || k.Kind != record.KindGroup || err == nil && !result.Done {
			continue
		}
		g, bad := record.Decode[record.Group](op.Key, op.Value)
		must(r.s.t, bad)
		r.s.lose(loss{begin, k.Group}, g.Revived, err == nil)
	}
	return result, err
}

// lose notes that a group may have been revived so often now.
func (s *sim) lose(l loss, revived uint64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revived <= s.revived[l.group] {
		return
	}
	if known {
		s.revived[l.group] = revived
		s.stats["revived"]++
	}
	for i := range s.losses {
		s.losses[i] = append(s.losses[i], l)
	}
}

// claimed notes that a volume has another gateway: what was lost is so by now for all
// who look. Its last gateway may have read it for as long as it did not know.
func (s *sim) claimed(volume int) {
	s.mu.Lock()
	list := s.losses[volume]
	s.losses[volume] = nil
	s.mu.Unlock()
	for _, l := range list {
		s.record(volume, op{kind: loses, begin: l.begin, who: "revive"}, blocksOf(l.group)...)
	}
}

// blocksOf are the blocks of a volume that are in a group.
func blocksOf(group int) (blocks []int) {
	for b := range simBlocks {
		if GroupOf(disk.Object{Family: simFamily, Index: uint64(b / simPer)}, simCopies, simGroups) == group {
			blocks = append(blocks, b)
		}
	}
	return blocks
}
