package record

import (
	"fmt"
	"slices"
	"testing"
)

// only is the deletion of one version that nobody has begun.
func only(vid uint64) Entry[Deletion] { return Entry[Deletion]{Record: Deletion{[]uint64{vid}}} }

// Versions are deleted together, while there is one deletion in the family, and children
// get the next ancestor that stays.
func TestDeletions(t *testing.T) {
	l := newLab(t)
	l.create("vm1")
	for i := range 6 { // versions 1 to 6, and the head 7
		_, err := l.cat.Snapshot(l.ctx, "vm1", fmt.Sprint("s", i), 0)
		l.must(err)
	}
	_, err := l.cat.Clone(l.ctx, "vm1", "s3", "vm2") // 8, of 4
	l.must(err)
	for _, i := range []int{1, 2, 3, 5} {
		l.must(l.cat.DeleteSnapshot(l.ctx, "vm1", fmt.Sprint("s", i)))
	}
	family := func() *Family { f, _ := l.view().Families.Get(1); return f }
	_, err = l.cat.Doom(l.ctx, family(), []uint64{7})
	l.fails(err, ErrInvalid, "version 7")
	_, err = l.cat.Doom(l.ctx, family(), []uint64{3, 4})
	l.fails(err, ErrInvalid, "older than the one before")
	_, err = l.cat.Doom(l.ctx, family(), []uint64{6, 4, 3, 2})
	l.must(err)
	d, ok := l.view().Deletions.Get(1)
	if !ok || !slices.Equal(d.Record.Versions, []uint64{6, 4, 3, 2}) {
		t.Fatalf("the deletion is %+v", d)
	}
	_, err = l.cat.Doom(l.ctx, family(), []uint64{2})
	l.fails(err, ErrConflict, "family 1")
	_, err = l.cat.Forget(l.ctx, family(), only(6), []uint64{6})
	l.fails(err, ErrConflict, "[6]")
	_, err = l.cat.Forget(l.ctx, family(), Entry[Deletion]{Deletion{[]uint64{6, 3, 2}}, d.Revision}, []uint64{4})
	l.fails(err, ErrInvalid, "version 4 is not one of")
	done, err := l.cat.Forget(l.ctx, family(), d, []uint64{4, 3, 2})
	l.must(err)
	parents := map[uint64]uint64{}
	for id, v := range family().Versions.All() {
		parents[id] = v.Parent
	}
	if want := map[uint64]uint64{1: 0, 5: 1, 6: 5, 7: 6, 8: 1}; !done || fmt.Sprint(parents) != fmt.Sprint(want) {
		t.Errorf("the parents are %v, expected %v", parents, want)
	}
	if _, ok := l.view().Deletions.Get(1); ok {
		t.Error("the deletion is still there")
	}
	// What is kept by disks is not forgotten.
	_, err = l.cat.Doom(l.ctx, family(), []uint64{6})
	l.must(err)
	d, _ = l.view().Deletions.Get(1)
	before := family().Volume.Revision
	if done, err := l.cat.Forget(l.ctx, family(), d, nil); err != nil || !done || family().Volume.Revision != before {
		t.Errorf("ended without forgetting: %v, %v", done, err)
	}
}
