package cluster

import (
	"sync"
	"testing"
	"time"
)

// All nodes are killed at the same moment, again and again: what was flushed is there
// when they are back.
func TestAllKilled(t *testing.T) {
	t.Parallel()
	const rounds = 3
	l := newLab(t, 3)
	l.nodes[1].order("create", "vm1", "32M")
	ledger := newLedger(32 << 20)
	for round := range rounds {
		c := l.open("vm1", round%3)
		ledger.known(t, c)
		ledger.work(c, uint64(round))
		wait(t, time.Duration(500+round*700)*time.Millisecond)
		var all sync.WaitGroup
		for _, n := range l.nodes {
			all.Go(n.kill)
		}
		all.Wait()
		ledger.crash()
		must(t, c.Close())
		began := time.Now()
		for i := range l.nodes { // in another order each time
			l.nodes[(i+round)%3].begin()
		}
		for _, n := range l.nodes {
			n.ready()
		}
		c = l.open("vm1", (round+1)%3)
		t.Logf("round %d: a volume can be used %v after the start of all nodes", round, time.Since(began).Round(time.Millisecond))
		ledger.verify(t, c, false)
		must(t, c.Close())
		t.Logf("healthy after %v", l.healthy().Round(time.Millisecond))
	}
	l.finish()
}
