package cluster

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// roundsVar names the variable with the number of rounds of TestRandomFaults, which
// "make nightly" sets. seedVar is that of the seed of an earlier run.
const (
	roundsVar = "STRATA_E2E_ROUNDS"
	seedVar   = "STRATA_E2E_SEED"
)

// number is a variable of the environment, or something else if there is none.
func number(t testing.TB, name string, usual uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	must(t, err)
	return n
}

// Faults of any kind come one after the other, at any moment, and some before the one
// before is over. Clients go to another node after a second.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	seed := number(t, seedVar, uint64(time.Now().UnixNano()))
	t.Logf("%s=%d", seedVar, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newScene(t)
	for round := range number(t, roundsVar, 3) {
		victim := rnd.IntN(3)
		n := s.nodes[victim]
		fault := []struct {
			name       string
			begin, end func()
		}{
			{"killed", n.kill, n.start},
			{"frozen", n.freeze, n.thaw},
			{"stopped", n.stop, n.start},
			{"without a cable", func() { s.net.unplug(victim) }, s.net.heal},
			{"deaf", func() { s.net.deaf(victim, (victim+1)%3); s.net.deaf(victim, (victim+2)%3) }, s.net.heal},
			{"mute", func() { s.net.deaf((victim+1)%3, victim); s.net.deaf((victim+2)%3, victim) }, s.net.heal},
		}[rnd.IntN(6)]
		long := time.Duration(rnd.Int64N(int64(3 * lease)))
		t.Logf("round %d: %s is %s for %v", round, n.name, fault.name, long)
		fault.begin()
		wait(t, time.Second)
		for _, c := range []*client{s.a, s.b} {
			if c.where() == victim {
				c.move((victim + 1 + rnd.IntN(2)) % 3)
			}
		}
		wait(t, long)
		fault.end()
		if rnd.IntN(3) > 0 {
			s.healthy()
		}
		wait(t, time.Duration(rnd.Int64N(int64(time.Second))))
	}
	s.calm()
	s.end()
}
