package cluster

import (
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/race"
)

// What clients may notice of faults.
var (
	// afterKill: the processes of a machine are killed, so that their connections
	// end; slack is for a machine that is busy with other tests.
	afterKill = time.Second + slack
	// afterSilence: nothing is heard any more, or a volume has to wait for the lease of
	// its gateway to end.
	afterSilence = lease + 2*time.Second + slack
	slack        = busy()
)

func busy() time.Duration {
	if race.Enabled {
		return 10 * time.Second // everything is many times slower
	}
	return 3 * time.Second
}

// A scene has a cluster of three nodes with a volume that fio uses at the second
// node, and one that a ledger uses at the third.
type scene struct {
	*lab
	a, b   *client
	fio    *fio
	ledger *ledger
}

const sceneSize = 32 << 20

func newScene(t testing.TB) *scene {
	t.Helper()
	return newSceneWith(t, func(*node) {})
}

func newSceneWith(t testing.TB, prepare func(*node)) *scene {
	t.Helper()
	s := &scene{lab: newLab(t, 3, prepare)}
	s.nodes[1].order("create", "vm1", "32M")
	s.nodes[2].order("create", "vm2", "32M")
	s.a, s.b = s.open("vm1", 1), s.open("vm2", 2)
	s.fio, s.ledger = startFio(t, s.a), newLedger(sceneSize)
	s.ledger.work(s.b, 1)
	t.Cleanup(func() { s.ledger.end() })
	s.calm()
	return s
}

// calm waits until all is well, and forgets how that was.
func (s *scene) calm() {
	s.t.Helper()
	took := s.healthy()
	wait(s.t, time.Second)
	s.t.Logf("healthy after %v", took.Round(time.Millisecond))
	s.paused("until all was well", patience, patience)
}

// paused says how long clients waited.
func (s *scene) paused(what string, a, b time.Duration) {
	s.t.Helper()
	s.a.pause(s.t, what, a)
	s.b.pause(s.t, what, b)
}

// end ends the load, and looks at everything.
func (s *scene) end() {
	s.t.Helper()
	s.healthy()
	s.fio.end()
	for _, err := range s.ledger.end() {
		s.t.Error(err)
	}
	s.ledger.verify(s.t, s.b, true)
	s.paused("at the end", patience, patience)
	must(s.t, s.a.Close())
	must(s.t, s.b.Close())
	s.finish()
}

// A node is killed and comes back: one whose copies are needed by one volume, and that
// serves another.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, victim := range []int{0, 2, 1} {
		s.nodes[victim].kill()
		wait(t, 3*time.Second)
		for _, c := range []*client{s.a, s.b} {
			if c.was == victim {
				c.pause(t, "the gateway was killed", afterSilence)
			} else {
				c.pause(t, "a node with copies was killed", afterKill)
			}
		}
		s.nodes[victim].start()
		wait(t, time.Second)
		s.paused("it is back", slack, slack)
		s.calm()
	}
	s.end()
}

// A node does not run for a while, and does not know of that.
func TestFrozen(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const long = 30 * time.Second
	s.nodes[2].freeze()
	wait(t, long)
	s.a.pause(t, "a node with copies was frozen", afterSilence)
	s.nodes[2].thaw()
	s.b.pause(t, "the gateway was frozen, and its client waited", long+afterSilence)
	s.calm()
	s.nodes[1].freeze()
	wait(t, time.Second)
	s.a.move(0)
	wait(t, 2*lease)
	s.paused("the gateway was frozen, and its client went", time.Second+afterSilence, afterSilence)
	s.nodes[1].thaw()
	wait(t, time.Second)
	s.paused("it goes on", slack, slack)
	s.calm()
	s.end()
}

// Nodes do not hear each other, in all ways there are. Clients go to another node after a
// second when theirs is cut off.
func TestPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, p := range []struct {
		name  string
		begin func()
		moves bool // the client of the third node
		// more is what it may take longer: after an election leases begin anew.
		more time.Duration
	}{
		{"the third is cut off", func() { s.net.cut(2, 0); s.net.cut(2, 1) }, true, 0},
		{"the cable of the third is out", func() { s.net.unplug(2) }, true, 0},
		{"the first and third do not hear each other", func() { s.net.cut(0, 2) }, true, 0},
		{"the third does not hear the first", func() { s.net.deaf(2, 0) }, true, 0},
		{"the first does not hear the third", func() { s.net.deaf(0, 2) }, true, 0},
		{"the third hears nobody", func() { s.net.deaf(2, 0); s.net.deaf(2, 1) }, true, 0},
		{"nobody hears the third", func() { s.net.deaf(0, 2); s.net.deaf(1, 2) }, true, 0},
		{"the gateways do not hear each other", func() { s.net.cut(1, 2) }, false, 0},
		{"the second does not hear the third", func() { s.net.deaf(1, 2) }, false, 0},
		{"the third does not hear the second", func() { s.net.deaf(2, 1) }, false, 0},
		{"the first is cut off", func() { s.net.cut(0, 1); s.net.cut(0, 2) }, false, lease},
	} {
		t.Log(p.name)
		p.begin()
		if p.moves {
			wait(t, time.Second)
			s.b.move(1)
		}
		wait(t, lease+3*time.Second)
		s.paused("while "+p.name, afterSilence+p.more, afterSilence+p.more+time.Second)
		s.net.heal()
		s.b.move(2)
		wait(t, time.Second)
		s.paused("healed", afterSilence, afterSilence)
		s.calm()
	}
	s.end()
}

// A node has a slow link, and everybody waits for it, but not in vain.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.net.slow(2, 20)
	wait(t, 5*time.Second)
	s.paused("the link of the third is slow", 2*slack, 2*slack)
	s.net.heal()
	s.calm()
	s.end()
}

// All nodes are started anew, one after the other, and clients see nothing but short
// pauses.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for i := range s.nodes {
		n := s.nodes[len(s.nodes)-1-i]
		n.stop()
		n.start()
		s.healthy()
		s.paused(n.name+" was started anew", afterSilence, afterSilence)
	}
	s.end()
}
