package cluster

import (
	"fmt"
	"testing"

	"github.com/strata-storage/strata/cluster/record"
)

// What has been agreed when a node catches up is part of what it says after that: that a node
// was started again and misses copies, for example.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	for i := range 20 {
		name := fmt.Sprintf("vm%d", i)
		must(t, nodes[i%2].Create(t.Context(), name, record.Spec{Size: 1 << 20}))
		other := nodes[1-i%2]
		must(t, other.CatchUp(t.Context()))
		if _, ok := other.View().Head(name); !ok {
			t.Errorf("%s is not known at the other node", name)
		}
	}
}
