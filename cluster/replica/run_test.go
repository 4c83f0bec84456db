package replica

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
)

// times is how many times as many histories are tried.
func times() int {
	if n, err := strconv.Atoi(os.Getenv("BLOCKTEST_TIMES")); err == nil && n > 0 {
		return n
	}
	return 1
}

// keptSeeds are tried each time: one of each climate, and those that have failed once.
var keptSeeds = []uint64{0, 1, 2, 3}

func model(r *chance) store { return newPlatter(r) }

// TestSimulation: whatever happens to nodes and networks, no write that was flushed is
// lost, each block is linearizable, and replicas are equal in the end.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, n := rand.Uint64(), 10*times()
	if s := os.Getenv("REPLICA_SEED"); s != "" {
		first, n = parseSeed(t, s), 1
	}
	if s := os.Getenv("REPLICA_SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	seeds := slices.Clone(keptSeeds)
	if n == 1 {
		seeds = nil
	}
	for i := range n {
		seeds = append(seeds, first+uint64(i))
	}
	total := map[string]int{}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for what, k := range simulate(t, seed, model) {
					total[what] += k
				}
			})
		})
	}
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%8d %s", total[what], what)
	}
}
