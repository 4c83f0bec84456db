package block_test

import (
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
)

// The end of a burst does what was left to it in order, what is left to it meanwhile
// included, and once.
func TestBurst(t *testing.T) {
	t.Parallel()
	var b block.Burst
	var got []int
	for range 2 {
		got = nil
		b.Later(func() {
			got = append(got, 1)
			b.Later(func() { got = append(got, 3) })
		})
		b.Later(func() { got = append(got, 2) })
		b.End()
		b.End()
		if !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("done: %v", got)
		}
	}
}
