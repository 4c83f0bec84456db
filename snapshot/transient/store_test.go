package transient_test

import (
	"testing"

	"github.com/strata-storage/strata/snapshot/snapshottest"
	_ "github.com/strata-storage/strata/snapshot/transient"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, share := range []string{"refs", "exact"} {
		t.Run(share, func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, snapshottest.Config{Kind: "transient", Args: map[string]string{"share": share}, Exact: share == "exact"})
		})
	}
}
