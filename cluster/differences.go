package cluster

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// ChangedSince begins the names of metadata contexts of volumes and snapshots:
// ChangedSince+NAME has the status Changed where the device may differ from the snapshot
// NAME of the volume. What was written and is the same may be said to differ, and never
// the other way round, whatever has been deleted since.
const ChangedSince = "strata:changed-since:"

// Changed is the status in a context of ChangedSince.
const Changed uint64 = 1

// maxContexts bounds how many contexts a device names. If a volume has more snapshots
// these are the youngest ancestors of what is looked at; Node.HasContext knows all. With
// more of them a list of thousands of snapshots, each with its contexts, would take minutes.
const maxContexts = 64

// contexts are the metadata contexts of a version of a volume.
func contexts(v *record.View, head record.Head, version uint64) (list []string) {
	if head.Name.Record.Snapshots <= maxContexts {
		for name := range v.Snapshots(head.Line()) {
			list = append(list, ChangedSince+name)
		}
		return list
	}
	f, _ := v.Families.Get(head.Line().Family)
	for version != 0 && len(list) < maxContexts {
		x, ok := f.Versions.Get(version)
		if !ok {
			break
		}
		if version = x.Parent; x.Name != "" && x.Line == head.Line().Line {
			list = append(list, ChangedSince+x.Name)
		}
	}
	return list
}

// HasContext reports whether a volume and its snapshots have a metadata context, which
// their Info need not name.
func (n *Node) HasContext(volume, mc string) bool {
	name, changes := strings.CutPrefix(mc, ChangedSince)
	v := n.state.View()
	head, ok := v.Head(volume)
	if !ok || !changes {
		return false
	}
	_, ok = v.Snapshot(head.Line(), name)
	return ok
}

// A mapper tells what is allocated, and what has changed since a version that is not 0.
type mapper interface {
	Map(ctx context.Context, since uint64, off, n int64) iter.Seq2[block.Extent, error]
}

// extentsOf is Extents of a block.Device for a version of the volume of a line. Neighbours
// of equal status are not joined: in a large volume that is empty nobody would hear anything
// for a long time.
func extentsOf(m mapper, v *record.View, l record.Line, info *block.Info, ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	name, changes := strings.CutPrefix(mc, ChangedSince)
	if !changes {
		if err := info.CheckExtents(mc, off, n); err != nil {
			return block.FailExtents(err)
		}
		return m.Map(ctx, 0, off, n)
	}
	if err := info.CheckRange(off, n); err != nil {
		return block.FailExtents(err)
	}
	since, ok := v.Snapshot(l, name)
	if !ok {
		return block.FailExtents(fmt.Errorf("changes since the snapshot %.200q: %w: %w", name, record.ErrNotFound, block.ErrInvalid))
	}
	return func(yield func(block.Extent, error) bool) {
		for e, err := range m.Map(ctx, since.ID, off, n) {
			if e.Status &= replica.Changed; e.Status != 0 {
				e.Status = Changed
			}
			if !yield(e, err) {
				return
			}
		}
	}
}
