package disk

import (
	"errors"
	"testing"
)

// What a disk has of a version that was deleted while it was away can be removed, and
// nothing can be added to it.
func TestRepairOfVanishedVersion(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 4), 0))
	gone := at(0, l.trees.add(1, 1))
	l.ok(l.Write(ctx, gone, fill(2, 20), 2*BlockSize))
	l.ok(l.Zero(ctx, gone, 0, BlockSize))
	l.trees.remove(1, gone.Version)
	var fixes []Fix
	for e, err := range l.Entries(ctx, gone.Object) {
		l.ok(err)
		if e.Version == gone.Version {
			fixes = append(fixes, Fix{Was: e})
		}
	}
	if len(fixes) != 21 {
		t.Fatalf("the version has %d entries", len(fixes))
	}
	data := []Fix{{Was: fixes[0].Was, Kind: Data, Data: fill(3, 1)}}
	if n, err := l.Repair(ctx, gone.Object, 0, data); n != 0 || !errors.Is(err, ErrVersion) {
		t.Errorf("%d fixes of what does not exist: %v", n, err)
	}
	if n, err := l.Repair(ctx, gone.Object, 0, fixes); n != 21 || err != nil {
		t.Errorf("%d of 21 entries were removed: %v", n, err)
	}
	l.ok(l.Flush(ctx))
	for e, err := range l.Entries(ctx, gone.Object) {
		if l.ok(err); e.Version != 1 {
			t.Errorf("there still is %+v", e)
		}
	}
}
