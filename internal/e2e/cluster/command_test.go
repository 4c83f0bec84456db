package cluster

import (
	"testing"
	"time"
)

// What the documentation tells people to do with three machines: they are joined, have a
// volume, one of them dies, and nobody has to do anything.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, nil, nil)
	nodes := s.nodes
	nodes[1].run("volume", "create", "vm1", "32M")
	says(t, nodes[1].run("volume", "show", "vm1"), "vm1", "32 MiB")
	s.known("vm1")
	nodes[2].fio("vm1", "--do_verify=1")
	nodes[2].run("volume", "snapshot", "vm1", "monday")
	nodes[0].kill()
	began := time.Now()
	nodes[1].fio("vm1", "--verify_only")
	t.Logf("all was read %v after the death of the first node", time.Since(began).Round(time.Millisecond))
	nodes[1].run("volume", "clone", "vm1@monday", "vm2")
	says(t, nodes[1].run("volume", "tree", "vm1"), "monday", "vm2")
	nodes[0].start()
	s.healthy(3)
	for _, p := range nodes {
		p.stop()
		p.start()
	}
	nodes[0].fio("vm1", "--verify_only")
	s.stop()
}
