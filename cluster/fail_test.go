package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
)

// sick is a slab with errors.
type sick struct {
	block.Pass
	writes *atomic.Bool  // fail
	sector *atomic.Int64 // cannot be read, if it is not 0
}

func (s sick) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if at := s.sector.Load(); at != 0 && at < off+int64(len(p)) && off <= at {
		return fmt.Errorf("sector at %d: %w", at, block.ErrIO)
	}
	return s.Pass.ReadAt(ctx, p, off, flags)
}

func (s sick) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if s.writes.Load() {
		return fmt.Errorf("a write: %w", block.ErrIO)
	}
	return s.Pass.WriteAt(ctx, p, off, flags)
}

// failing starts three nodes of which the second has a slab that can be made sick.
func failing(t testing.TB) (nodes []*Node, writes *atomic.Bool, sector *atomic.Int64) {
	t.Helper()
	writes, sector = &atomic.Bool{}, &atomic.Int64{}
	nodes = severalWith(t, 3, func(i int, o *Options) {
		if i == 1 {
			o.slab = func(d block.Device) block.Device { return sick{block.Pass{Device: d}, writes, sector} }
		}
	})
	return nodes, writes, sector
}

// disks has those of a node.
func (n *Node) disk() *ownDisk {
	for _, d := range n.disks {
		return d
	}
	return nil
}

// A disk that gives errors fails alone: clients do not notice, everybody knows of it, the
// groups do without it, and it is used again when its node was started with a disk that
// works.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	nodes, writes, _ := failing(t)
	n := nodes[0]
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 4<<20, 1)
	must(t, dev.Flush(t.Context()))
	writes.Store(true)
	fill(t, dev, 0, 1<<20, 2)
	id := nodes[1].disk().kept.ID
	until(t, n, "nobody knows that the disk has failed", func(v *record.View) bool {
		d, _ := v.Disks.Get(id)
		for _, g := range v.Groups.All() {
			for _, m := range g.Record.Members {
				if m.Disk == id {
					return false
				}
			}
		}
		return strings.Contains(d.Record.Failed, "a write")
	})
	must(t, dev.Flush(t.Context()))
	eventually(t, n, "the status does not tell", func() bool {
		r, err := n.Status()
		must(t, err)
		return strings.Contains(strings.Join(r.Risks, "\n"), "has failed")
	})
	check(t, dev, 0, 1<<20, 2)
	check(t, dev, 1<<20, 3<<20, 1)
	must(t, stop(nodes[1]))
	writes.Store(false)
	nodes[1] = start(t, nodes[1].o)
	until(t, n, "the disk still counts as failed", func(v *record.View) bool {
		d, _ := v.Disks.Get(id)
		return d.Record.Failed == ""
	})
	healthy(t, n, nodes[1].incarnation)
	wantBlocks(t, nodes, 4*mib)
}

// A block that cannot be read is read from another disk, and gets another place.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	nodes, _, sector := failing(t)
	n := nodes[1]
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 4<<20, 1)
	must(t, dev.Flush(t.Context()))
	sector.Store(whereIs(t, n, 40960, 1))
	check(t, dev, 0, 4<<20, 1)
	sound(t, nodes)
	check(t, dev, 0, 4<<20, 1)
	if d, _ := n.View().Disks.Get(n.disk().kept.ID); d.Record.Failed != "" {
		t.Errorf("the disk has failed: %s", d.Record.Failed)
	}
}
