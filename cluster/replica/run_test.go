package replica

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// times is how many times as many histories are tried.
func times() int {
	if n, err := strconv.Atoi(os.Getenv("BLOCKTEST_TIMES")); err == nil && n > 0 {
		return n
	}
	return 1
}

// keptSeeds are tried each time: one of each climate, and those that have failed once.
var keptSeeds = []uint64{0, 1, 2, 3, 9519687255764422815, 14378953254736813167, 14378953254736813192, 14378953254736813206}

// budget bounds how long new seeds are begun, times as long if there are to be more.
const budget = 30 * time.Second

func model(r *chance) store { return newPlatter(r) }

// TestSimulation: whatever happens to nodes and networks, no write that was flushed is
// lost, each block is linearizable, and replicas are equal in the end.
//
// Each run has other seeds, which are in the names of the tests: REPLICA_SEED=N tries
// that one again. Goroutines do not always run in the same order, so that it may take
// some attempts: REPLICA_SEEDS=10 makes ten.
func TestSimulation(t *testing.T) {
	t.Parallel()
	histories(t, 30, keptSeeds, model)
}

// histories tries the histories of kept seeds, and of so many new ones.
func histories(t *testing.T, n int, seeds []uint64, newStore func(*chance) store) {
	n *= times()
	until := time.Now().Add(budget * time.Duration(times()))
	first, step := rand.Uint64(), uint64(1)
	if s := os.Getenv("REPLICA_SEED"); s != "" {
		var err error
		if first, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		n, step, seeds = 1, 0, nil
	}
	if s := os.Getenv("REPLICA_SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
		until = time.Now().Add(24 * time.Hour)
	}
	total, tried := map[string]int{}, 0
	for i := range len(seeds) + n {
		seed := first + step*uint64(i)
		if i < len(seeds) {
			seed = seeds[i]
		} else if time.Now().After(until) {
			break
		}
		tried++
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			var s *sim
			synctest.Test(t, func(t *testing.T) { s = simulate(t, seed, newStore) })
			if s == nil {
				return
			}
			if s.check(t); t.Failed() {
				t.Logf("REPLICA_SEED=%d REPLICA_SEEDS=10 tries it again", seed)
			}
			for what, k := range s.stats {
				total[what] += k
			}
		})
	}
	t.Logf("%8d histories", tried)
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%8d %s", total[what], what)
	}
}
