package cluster

import (
	"errors"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/job"
)

// Any node tells of what all do in the background, and lets it wait everywhere.
func TestAllWork(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	begun := nodes[1].board.Begin(job.What{Kind: job.Data, Disk: "d", Unit: "bytes"}, nil)
	begun.Set(5, 10)
	suspended := func(want ...job.Kind) []Work {
		t.Helper()
		all, err := nodes[0].AllWork(t.Context())
		must(t, err)
		for _, w := range all {
			if !slices.Equal(w.Suspended, want) {
				t.Errorf("node %s has suspended %v, expected %v", w.Node, w.Suspended, want)
			}
		}
		return all
	}
	all := suspended()
	found := false
	for _, w := range all {
		for _, j := range w.Jobs {
			found = found || w.Node == nodes[1].ID() && j.Disk == "d" && j.Done == 5 && j.Total == 10
		}
	}
	if len(all) != 2 || !found {
		t.Errorf("they do %+v", all)
	}
	must(t, nodes[0].SuspendAll(t.Context(), job.Data, true))
	suspended(job.Data)
	must(t, nodes[1].SuspendAll(t.Context(), job.Data, false))
	suspended()
	if err := nodes[0].SuspendAll(t.Context(), "sleep", true); !errors.Is(err, block.ErrInvalid) {
		t.Errorf("suspended what there is not: %v", err)
	}
	begun.End()
}
