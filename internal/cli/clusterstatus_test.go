package cli

import (
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/node"
)

// What is done in the background is said in units that people know.
func TestWork(t *testing.T) {
	t.Parallel()
	left := 65.0
	var b strings.Builder
	writeWork(&b, &node.ClusterStatus{Work: []node.WorkStatus{
		{Kind: "join", Jobs: 16, Disks: 1, Unit: "permille"},
		{Kind: "join", Jobs: 2, Disks: 2, Unit: "permille", Done: 500, Total: 2000, PerSecond: 7, SecondsLeft: &left},
		{Kind: "data", Suspended: true},
		{Kind: "delete", Jobs: 1, Unit: "objects", Done: 3, Total: 4, PerSecond: 2},
	}})
	want := "copying (join): 16 jobs on 1 disk, 0 %\n" +
		"copying (join): 2 jobs on 2 disks, 25 %, 1:05 left\n" +
		"reading and verifying (data): suspended\n" +
		"freeing what was deleted (delete): 1 job, 3 of 4 objects, 2/s\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// A disk is not well if nobody can reach it.
func TestDiskState(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		d    node.DiskStatus
		away bool
		want string
	}{
		{node.DiskStatus{Weight: 1}, false, "well"},
		{node.DiskStatus{Weight: 1}, true, "away"},
		{node.DiskStatus{Weight: 1, Full: true}, true, "away"},
		{node.DiskStatus{Weight: 1, Full: true}, false, "full"},
		{node.DiskStatus{Weight: 1, Failed: "an I/O error"}, true, "failed"},
		{node.DiskStatus{}, false, "to be empty"},
	} {
		if got := diskState(&x.d, x.away); got != x.want {
			t.Errorf("%+v, away %v: %s, expected %s", x.d, x.away, got, x.want)
		}
	}
}
