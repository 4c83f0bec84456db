package cluster

import (
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
)

// A volume goes on from a snapshot of its clone, if it is what the clone was made of and
// nobody has it open.
func TestAdopt(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	ctx := t.Context()
	must(t, n.Create(ctx, "vm1", record.Spec{Size: 1 << 20}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 8192, 1)
	must(t, n.Snapshot(ctx, "vm1", "sunday"))
	made := func(clone string) {
		must(t, n.Clone(ctx, "vm1", "sunday", clone))
		must(t, n.Grow(ctx, clone, 2<<20))
		other := open(t, n, clone)
		fill(t, other, 4096, 4096, 2)
		must(t, n.SnapshotOf(ctx, clone, "monday", "elsewhere/1/2"))
		must(t, other.Close())
	}
	made("clone")
	if err := n.Adopt(ctx, "vm1", "sunday", "clone", "monday"); !errors.Is(err, record.ErrInUse) {
		t.Errorf("while it is open: %v", err)
	}
	must(t, dev.Close())
	must(t, n.Adopt(ctx, "vm1", "sunday", "clone", "monday"))
	must(t, n.Delete(ctx, "clone"))
	dev = open(t, n, "vm1")
	if size := dev.Info().Size; size != 2<<20 {
		t.Errorf("it has %d bytes", size)
	}
	fill(t, dev, 0, 4096, 3)
	check(t, dev, 4096, 4096, 2)
	monday, err := n.OpenSnapshot(ctx, "vm1", "monday")
	must(t, err)
	defer monday.Close()
	check(t, monday, 0, 4096, 1)
	check(t, monday, 4096, 4096, 2)
	head, _ := n.View().Head("vm1")
	if v, _ := n.View().Snapshot(head.Line(), "monday"); n.View().SnapshotID(head.Line().Family, v) != "elsewhere/1/2" {
		t.Errorf("the snapshot is %+v", v)
	}
	must(t, dev.Close())
	must(t, n.DeleteSnapshot(ctx, "vm1", "monday"))
	made("again")
	for base, is := range map[string]error{"sunday": ErrWritten, "friday": record.ErrNotFound} {
		if err := n.Adopt(ctx, "vm1", base, "again", "monday"); !errors.Is(err, is) {
			t.Errorf("it was written since %s: %v", base, err)
		}
	}
	if !errors.Is(ErrWritten, block.ErrInvalid) {
		t.Error("who has written is to blame")
	}
}
