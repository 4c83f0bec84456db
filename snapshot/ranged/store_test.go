package ranged

import (
	"testing"

	"github.com/strata-storage/strata/snapshot/snapshottest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, share := range []string{"refs", "exact"} {
		t.Run(share, func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, snapshottest.Config{Kind: "ranged", Args: map[string]string{"share": share}, Exact: share == "exact"})
		})
	}
}
