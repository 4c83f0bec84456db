package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	daemon "github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
)

// Two of three machines are lost for good with all that they had. What was flushed is on
// the third one, and goes on when an operator says so, with new machines.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, nil, nil)
	last := s.nodes[2]
	last.run("volume", "create", "vm1", "32M")
	s.known("vm1")
	last.fio("vm1", "--do_verify=1", "--end_fsync=1")
	last.run("volume", "snapshot", "vm1", "monday")
	if out, err := last.try("cluster", "recover-quorum", "--yes"); err == nil {
		t.Errorf("a quorum is recovered that was not lost: %s", out)
	}
	for _, p := range s.nodes[:2] {
		p.kill()
		must(t, os.RemoveAll(p.data))
	}
	until(t, "the node to miss the others", func() bool {
		out, err := last.try("cluster", "recover-quorum", "--yes")
		if err == nil {
			t.Log(out)
		}
		return err == nil
	})
	// Their leases have not ended, but nobody is told that all is well.
	st, err := last.status()
	must(t, err)
	for _, x := range st.Nodes {
		if x.State == "up" && x.ID != st.Asked.ID {
			t.Errorf("the node %s is said to be up", x.Label)
		}
	}
	began := time.Now()
	last.fio("vm1", "--verify_only")
	t.Logf("all is read %v after the recovery", time.Since(began).Round(time.Millisecond))
	t.Log(last.run("cluster", "status"))
	for range 2 {
		s.add(nil)
	}
	for _, p := range s.nodes[:2] {
		until(t, "the node to be taken for lost", func() bool {
			out, err := last.try("cluster", "forget", p.name, "--yes")
			if err == nil {
				t.Log(out)
			}
			return err == nil
		})
	}
	s.nodes = s.nodes[2:]
	s.healthy(3)
	until(t, "new nodes to vote", func() bool { return s.voters() == 3 })
	fresh := s.nodes[2]
	fresh.fio("vm1", "--verify_only")
	fresh.fio("vm1", "--do_verify=1", "--randseed=4")
	t.Log(fresh.run("volume", "check", "vm1"))
	says(t, fresh.run("volume", "tree", "vm1"), "monday")
	s.stop()
}

// A node without disks serves volumes, and has a vote: with two nodes that have disks it
// makes one of them dispensable.
func TestGatewayOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, nil, []string{"--gateway-only"})
	gateway := s.nodes[2]
	gateway.run("volume", "create", "vm1", "32M", "--copies", "2", "--min-copies", "1")
	gateway.fio("vm1", "--do_verify=1")
	t.Log(gateway.run("cluster", "status"))
	s.nodes[0].kill()
	gateway.fio("vm1", "--verify_only")
	gateway.fio("vm1", "--do_verify=1", "--randseed=4")
	s.nodes[0].start()
	s.healthy(3)
	t.Log(gateway.run("volume", "check", "vm1"))
	gateway.stop()
	gateway.start()
	gateway.fio("vm1", "--verify_only", "--randseed=4")
	s.stop()
}

// A node has three disks. One gives errors while it is used, another is not there at the
// next start: what they had is copied to the third one, and the node goes on.
func TestDisksFail(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	backing, file := filepath.Join(dir, "backing"), filepath.Join(dir, "file")
	must(t, os.WriteFile(backing, nil, 0o600))
	must(t, os.Truncate(backing, 1<<30))
	loop, err := try(t, "", "losetup", "--find", "--show", backing)
	if err != nil {
		peer.Cannot(t, "make a loop device: %v: %s", err, loop)
	}
	loop = strings.TrimSpace(loop)
	t.Cleanup(func() { exec.Command("losetup", "--detach", loop).Run() })
	s := newSite(t, nil, nil, []string{"--disk", loop, "--disk", file + ",size=1G", "--disk", filepath.Join(dir, "third") + ",size=1G"})
	many := s.nodes[2]
	many.run("volume", "create", "vm1", "32M")
	ledger, dev := newLedger(32<<20), s.dial("nbd+unix:///vm1?socket="+many.socket)
	ledger.work(dev, 1)
	s.healthy(3)
	failed := func(count int) func(*daemon.ClusterStatus) bool {
		return func(st *daemon.ClusterStatus) bool {
			n := 0
			for _, d := range st.Disks {
				if d.Failed != "" {
					n++
				}
			}
			return n == count
		}
	}
	began := time.Now()
	must(t, os.Truncate(backing, 0))
	run(t, "losetup", "--set-capacity", loop) // as if it was taken out
	s.await("the disk to be failed", failed(1))
	t.Logf("it is failed after %v", time.Since(began).Round(time.Millisecond))
	t.Log(many.run("cluster", "status"))
	s.healthy(3)
	for _, err := range ledger.end() {
		t.Error(err)
	}
	ledger.verify(t, dev, true)
	must(t, dev.Close())
	many.stop()
	must(t, os.Remove(file))
	many.args = nil // it knows its disks
	many.start()
	s.await("the other disk to be missed", failed(2))
	st, err := many.status()
	must(t, err)
	for _, d := range st.Disks {
		if d.Failed != "" {
			t.Logf("%s: %s", d.ID, d.Failed)
			t.Log(s.nodes[0].run("cluster", "forget", "--disk", d.ID[:12], "--yes"))
		}
	}
	s.healthy(3)
	t.Log(many.run("cluster", "status"))
	t.Log(many.run("volume", "check", "vm1"))
	dev = s.dial("nbd+unix:///vm1?socket=" + many.socket)
	ledger.verify(t, dev, true)
	must(t, dev.Close())
	s.stop()
}

// dial opens what a server has.
func (s *site) dial(uri string) *nbd.Client {
	s.t.Helper()
	c, err := nbd.Dial(s.t.Context(), uri)
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// A machine that is no node serves a volume with "strata serve". The node that it uses
// dies, and it goes on with another one.
func TestVolumeFromOutside(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, nil, nil)
	s.nodes[0].run("volume", "create", "vm1", "32M")
	s.known("vm1")
	outside := s.net.add()
	socket := filepath.Join(shortDir(t), "s")
	words := append(outside.enter(), s.nodes[0].path, "serve", "--quiet", "--listen", "unix://"+socket,
		`disk=volume("vm1", cluster="10.77.0.1,10.77.0.2,10.77.0.3")`)
	cmd := exec.Command(peer.Need(t, words[0]), words[1:]...)
	var log logBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			keepLog(t, "serve", log.String())
		}
	})
	peer.Await(t, socket)
	ledger, dev := newLedger(32<<20), s.dial("nbd+unix:///disk?socket="+socket)
	ledger.work(dev, 1)
	wait(t, time.Second)
	s.nodes[0].kill() // the first of those that are named
	wait(t, lease+3*time.Second)
	for _, err := range ledger.end() {
		t.Error(err)
	}
	ledger.verify(t, dev, true)
	s.nodes[0].start()
	s.healthy(3)
	// What was written is the volume, wherever it is read.
	inside := s.dial("nbd+unix:///vm1?socket=" + s.nodes[0].socket)
	ledger.verify(t, inside, true)
	must(t, inside.Close())
	must(t, dev.Close())
	t.Log(s.nodes[2].run("volume", "check", "vm1"))
	s.stop()
}

// A node is drained, stopped and forgotten, while it serves a volume.
func TestDrained(t *testing.T) {
	t.Parallel()
	l := newLab(t, 4)
	l.nodes[0].order("create", "vm1", "32M")
	c := l.open("vm1", 3)
	ledger := newLedger(32 << 20)
	ledger.work(c, 1)
	l.healthy()
	wait(t, time.Second)
	c.pause(t, "until all was well", patience)
	gone, at := l.nodes[3], l.nodes[0].control()
	carry := func(what string) {
		t.Helper()
		f, err := at.Carry(t.Context(), daemon.Order{Do: what, Node: gone.name})
		must(t, err)
		t.Logf("%s: %s", what, strings.Join(f.Texts, " "))
	}
	carry("drain")
	until(t, "the node to have nothing", func() bool {
		st, err := at.ClusterStatus(t.Context())
		if err != nil {
			return false
		}
		for _, n := range st.Nodes {
			if n.Label == gone.name && n.Groups == 0 {
				return st.States["healthy"] == st.Groups
			}
		}
		return false
	})
	c.pause(t, "the node was drained", slack)
	gone.stop()
	wait(t, time.Second)
	c.pause(t, "it was stopped", slack)
	carry("forget")
	says(t, gone.fails(), "expelled")
	wait(t, time.Second)
	for _, err := range ledger.end() {
		t.Error(err)
	}
	ledger.verify(t, c, true)
	c.pause(t, "it was forgotten", slack)
	must(t, c.Close())
	gone.clean()
	l.nodes = l.nodes[:3]
	l.finish()
}
