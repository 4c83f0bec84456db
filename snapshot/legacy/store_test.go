package legacy_test

import (
	"fmt"
	"testing"

	_ "github.com/strata-storage/strata/snapshot/legacy"
	"github.com/strata-storage/strata/snapshot/snapshottest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, c := range []snapshottest.Config{
		{Exact: true},
		// Few exceptions to an area, so that there are many areas.
		{Chunk: 512, Origin: 140_288, Store: 1 << 20, Seeds: 3},
		{Origin: 160 << 10, MinBlock: 4096, Seeds: 3},
	} {
		c.Kind = "legacy"
		t.Run(fmt.Sprint(c.Chunk, "/", c.MinBlock), func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, c)
		})
	}
}
