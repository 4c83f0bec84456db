package cluster

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// longLease is one that nobody can take for something else when it is waited for.
const longLease = 60 * time.Second

// restartPause is after which the unit file has a node that has died started again.
func restartPause(t testing.TB) time.Duration {
	t.Helper()
	text, err := os.ReadFile("../../../dist/systemd/strata-node.service")
	must(t, err)
	m := regexp.MustCompile(`(?m)^RestartSec=(.*)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("the unit file of a node does not say when it is started again")
	}
	pause, err := time.ParseDuration(string(m[1]))
	must(t, err)
	return pause
}

// A gateway is killed, and started again as the unit file does. Its machine knows that the process before does not write any more, so that nobody
// waits for its lease: neither a client that comes back to it nor one that goes to another
// node.
func TestKilledAndRestarted(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, func(n *node) { n.config.Lease = longLease })
	l.nodes[0].order("create", "vm1", "32M")
	l.nodes[0].order("create", "vm2", "32M")
	stays, goes := newLedger(32<<20), newLedger(32<<20)
	a, b := l.open("vm1", 0), l.open("vm2", 0)
	a.stay(true)
	for round, victim := range []int{1, 0} {
		a.move(victim)
		b.move(victim)
		stays.again()
		goes.again()
		stays.work(a, uint64(round))
		goes.work(b, uint64(round))
		l.healthy()
		wait(t, time.Second)
		a.pause(t, "until all was well", patience)
		b.pause(t, "until all was well", patience)
		l.nodes[victim].kill()
		wait(t, restartPause(t))
		l.nodes[victim].begin()
		wait(t, 2*time.Second)
		if p := a.pause(t, "the gateway was killed and started again", afterKill); p > longLease/2 {
			t.Errorf("a client that waits for the node has waited for the lease: %v", p)
		}
		if p := b.pause(t, "the same, and its client went", afterKill); p > longLease/2 {
			t.Errorf("a client that goes to another node has waited for the lease: %v", p)
		}
		if at := b.where(); at == victim {
			t.Error("the client is still at the node that was killed")
		}
		for _, ledger := range []*ledger{stays, goes} {
			for _, err := range ledger.end() {
				t.Error(err)
			}
		}
		l.nodes[victim].ready()
	}
	stays.verify(t, a, true)
	goes.verify(t, b, true)
	must(t, a.Close())
	must(t, b.Close())
	l.finish()
}
