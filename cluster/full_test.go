package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
)

// A disk that is full lets nothing fail as long as the others have room: groups that need
// some go on without it, and have it again when there is room.
func TestFull(t *testing.T) {
	t.Parallel()
	nodes := severalWith(t, 3, func(i int, o *Options) {
		o.Steward = steward.Options{Hold: time.Second}
		if i == 2 {
			o.DiskSize = minDisk
		}
	})
	n := nodes[2] // the gateway is the node with the full disk
	for _, name := range []string{"vm1", "vm2"} {
		must(t, n.Create(t.Context(), name, record.Spec{Size: 128 << 20}))
	}
	small, large := open(t, n, "vm1"), open(t, n, "vm2")
	fill(t, small, 0, 4<<20, 1)
	for off := int64(0); off < 96<<20; off += 1 << 20 {
		must(t, large.WriteAt(t.Context(), make([]byte, 1<<20), off, 0))
	}
	must(t, large.Flush(t.Context()))
	fill(t, small, 0, 4<<20, 2)
	check(t, small, 0, 4<<20, 2)
	must(t, small.Flush(t.Context()))
	until(t, n, "nobody knows that the disk is full", func(v *record.View) bool {
		h, _ := v.Health.Get(n.disk().kept.ID)
		return h.Record.Full && h.Record.Used > 50<<20
	})
	r, err := n.Status()
	must(t, err)
	if text := strings.Join(r.Risks, "\n"); !strings.Contains(text, "is full, ") || r.States[steward.Degraded] == 0 {
		t.Errorf("the status says %q", text)
	}
	must(t, large.Close())
	must(t, n.Delete(t.Context(), "vm2"))
	healthy(t, n, n.incarnation)
	settled(t, n, 0)
	fill(t, small, 32<<20, 16<<20, 3)
	must(t, small.Flush(t.Context()))
	healthy(t, n, n.incarnation)
	wantBlocks(t, nodes, 20*mib)
}

// Where there are more disks than copies, another one takes the place of one that is full.
func TestFullElsewhere(t *testing.T) {
	t.Parallel()
	nodes := severalWith(t, 4, func(i int, o *Options) {
		o.Groups = 16
		o.Steward = steward.Options{Hold: time.Second, Full: 1} // nothing moves back
		if i == 3 {
			o.DiskSize = minDisk
		}
	})
	n := nodes[0]
	small := nodes[3].disk().kept.ID
	// All groups are to be there.
	must(t, n.changeDisk(t.Context(), small, func(d *record.Disk) error { d.Weight = 1 << 40; return nil }))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 80 << 20}))
	dev := open(t, n, "vm1")
	for off := int64(0); off < 80<<20; off += 1 << 20 {
		fill(t, dev, off, 1<<20, uint64(off))
	}
	must(t, dev.Flush(t.Context()))
	until(t, n, "copies are missing", func(v *record.View) bool {
		whole, elsewhere := true, false
		for _, g := range v.Groups.All() {
			whole = whole && len(g.Record.Members) >= 3
			elsewhere = elsewhere || !slices.ContainsFunc(g.Record.Members, func(m record.Member) bool { return m.Disk == small })
		}
		return whole && elsewhere
	})
	for off := int64(0); off < 80<<20; off += 1 << 20 {
		check(t, dev, off, 1<<20, uint64(off))
	}
}

// thin is a slab that finds out at a flush that it has no room.
type thin struct {
	block.Pass
	full *atomic.Bool
}

func (d thin) Flush(ctx context.Context) error {
	if d.full.Load() {
		return fmt.Errorf("a flush: %w", block.ErrNoSpace)
	}
	return d.Pass.Flush(ctx)
}

// A disk that has no room for what it had taken before has failed, for good: others have it,
// and clients are not told of it.
func TestThinStorage(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	nodes := severalWith(t, 3, func(i int, o *Options) {
		if i == 1 {
			o.slab = func(d block.Device) block.Device { return thin{block.Pass{Device: d}, &full} }
		}
	})
	n := nodes[1]
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 4<<20, 1)
	full.Store(true)
	must(t, dev.Flush(t.Context()))
	full.Store(false)
	must(t, dev.Flush(t.Context()))
	id := n.disk().kept.ID
	until(t, n, "nobody knows that the disk has failed", func(v *record.View) bool {
		d, _ := v.Disks.Get(id)
		for _, g := range v.Groups.All() {
			if slices.ContainsFunc(g.Record.Members, func(m record.Member) bool { return m.Disk == id }) {
				return false
			}
		}
		return strings.Contains(d.Record.Failed, "a flush")
	})
	check(t, dev, 0, 4<<20, 1)
}
