package record

import (
	"fmt"
	"testing"

	"github.com/strata-storage/strata/cluster/coord"
)

// How many disks writes need follows the volumes, and the nodes that there are for
// copies, whether they live or not.
func TestNeeded(t *testing.T) {
	t.Parallel()
	var events []coord.Entry
	put := func(key string, r Record) {
		value, err := Encode(key, r)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, coord.Entry{Key: key, Value: value, Revision: coord.Revision(len(events) + 1)})
	}
	v := newView()
	want := func(what string, one, two, three, four int) {
		t.Helper()
		for _, e := range events {
			var err error
			if v, err = v.after(coord.Change{Revision: e.Revision, Events: []coord.Event{{Entry: e}}}); err != nil {
				t.Fatal(err)
			}
			v.Needed(1) // what follows must not keep this
		}
		events = events[:0]
		if got := [4]int{v.Needed(1), v.Needed(2), v.Needed(3), v.Needed(4)}; got != [4]int{one, two, three, four} {
			t.Errorf("%s: needed are %v, expected %v", what, got, []int{one, two, three, four})
		}
	}
	node := func(i int, draining bool, weight int64, failed string) {
		id := fmt.Sprint("n", i)
		put(NodeKey(id), Node{ID: id, Zone: id, Draining: draining})
		put(DiskKey("d"+id), Disk{ID: "d" + id, Node: id, Weight: weight, Failed: failed})
		put(DiskKey("e"+id), Disk{ID: "e" + id, Node: id, Weight: weight, Failed: failed})
	}
	want("without nodes", 1, 1, 1, 1)
	node(1, false, 5, "")
	want("one node", 1, 1, 1, 1)
	node(2, false, 5, "an I/O error")
	want("another one, whose disk has failed", 1, 2, 2, 2)
	node(3, false, 0, "")
	want("one without weight", 1, 2, 2, 2)
	node(3, false, 1, "")
	want("which gets one", 1, 2, 2, 3)
	put(VolumeKey(1), Volume{Family: 1, ObjectSize: MinObjectSize, Copies: 3, MinCopies: 1, NextVersion: 2})
	want("a volume that makes do with one copy", 1, 2, 1, 3)
	put(VolumeKey(2), Volume{Family: 2, ObjectSize: MinObjectSize, Copies: 3, MinCopies: 3, NextVersion: 2})
	want("a careful one", 1, 2, 3, 3)
	if n := v.Hosts(); n != 2 {
		t.Errorf("%d nodes are there for copies, expected those whose disk has not failed", n)
	}
	node(1, true, 5, "")
	want("a node drains", 1, 2, 2, 2)
	if n := v.Hosts(); n != 1 {
		t.Errorf("%d nodes are there for copies when one drains", n)
	}
	for _, copies := range []int{-1, 0, MaxCopies + 1} {
		if n := v.Needed(copies); n < 1 {
			t.Errorf("of %d copies %d are needed", copies, n)
		}
	}
}
