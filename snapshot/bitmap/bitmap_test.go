package bitmap

import (
	"fmt"
	"testing"

	"github.com/strata-storage/strata/snapshot/snapshottest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	snapshottest.Run(t, snapshottest.Config{Kind: "bitmap", Copies: 1})
}

// Leaves are larger than chunks, and smaller.
func TestChunkSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []snapshottest.Config{{Chunk: 512, Origin: 192<<10 + 512, Store: 2 << 20}, {Chunk: 64 << 10, Origin: 2<<20 + 512, Store: 64 << 20}} {
		t.Run(fmt.Sprint(c.Chunk), func(t *testing.T) {
			t.Parallel()
			c.Kind, c.Copies, c.Seeds, c.Args = "bitmap", 1, 2, map[string]string{"journal": "80"}
			snapshottest.Run(t, c)
		})
	}
}
