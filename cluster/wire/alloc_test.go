package wire

import (
	"testing"

	"github.com/strata-storage/strata/internal/race"
)

func TestNoAllocationPerRequest(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates, and drops what is pooled")
	}
	c := connect(t, over(t, newServer()))
	head, payload, into, back := make([]byte, 60), make([]byte, 4096), make([]byte, 4096), make([]byte, 0, 100)
	for name, r := range map[string]Call{
		"write":  {Op: opRead, Head: head, Payload: payload, HeadInto: back},
		"read":   {Op: opRead, Head: head, Into: into, HeadInto: back},
		"inline": {Op: opInline, Head: head, Payload: payload, Into: into, HeadInto: back},
	} {
		n := testing.AllocsPerRun(2000, func() {
			if _, err := c.Do(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations per request, expected none", name, n)
		}
	}
}
