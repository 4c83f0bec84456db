package cluster

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
)

// says fails the test unless a text has all of these.
func says(t testing.TB, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in: %s", w, text)
		}
	}
}

// Nodes that must not join, and data directories that are not those of the node.
func TestStrangers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	other := newNode(t, "other", l.net.add())
	other.start()
	foreign := other.order("token")
	host := l.net.add()
	for _, x := range []struct {
		name, token string
		want        string
	}{
		{"garbage", "garbage", "token"},
		{"expired", l.nodes[0].order("expired"), "expired"},
		{"foreign", foreign, "not the cluster of the token"},
	} {
		n := newNode(t, x.name, host)
		n.joins(l.nodes[0], x.token)
		says(t, n.fails(), x.want)
	}
	l.see()

	// The directory is in use.
	twice := newNode(t, "twice", l.nodes[1].host)
	twice.config.Dir, twice.config.NBD = l.nodes[1].config.Dir, l.nodes[1].host.address()+":10810"
	says(t, twice.fails(), "data directory "+twice.config.Dir, "in use")
	// It is of another cluster.
	other.stop()
	moved := newNode(t, "moved", host)
	moved.config.Dir = other.config.Dir
	moved.joins(l.nodes[0], l.nodes[0].order("token"))
	says(t, moved.fails(), "by the token", "cluster")
	// There is something else in it.
	full := newNode(t, "full", host)
	must(t, os.MkdirAll(full.config.Dir, 0o700))
	must(t, os.WriteFile(filepath.Join(full.config.Dir, "photos"), nil, 0o600))
	says(t, full.fails(), "photos", "expected nothing")
	// Half of it is gone.
	half := newNode(t, "half", host)
	must(t, os.MkdirAll(filepath.Join(half.config.Dir, "disks"), 0o700))
	says(t, half.fails(), "disks")
	// The slab is that of another node.
	l.nodes[1].stop()
	must(t, os.Rename(l.nodes[1].slab(), l.nodes[1].slab()+".own"))
	run(t, "cp", "--sparse=always", filepath.Join(other.config.Dir, "disks/0/slab"), l.nodes[1].slab())
	says(t, l.nodes[1].fails(), "opening disk 0", "belongs to disk")
	must(t, os.Rename(l.nodes[1].slab()+".own", l.nodes[1].slab()))
	l.nodes[1].start()
	l.finish()
}

// A copy of a node's data is started elsewhere while the node runs, as when somebody
// has cloned its machine. Nothing that was flushed is lost.
func TestClonedNode(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.nodes[2].stop()
	twin := newNode(t, "twin", s.net.add())
	run(t, "cp", "-a", "--sparse=always", s.nodes[2].config.Dir, twin.config.Dir)
	s.nodes[2].start()
	s.calm()
	twin.begin()
	wait(t, 2*lease)
	t.Logf("the twin runs: %v, and says: %s", twin.runs(), tail(twin.log.String(), 10))
	twin.kill()
	s.paused("a node was there twice", 3*afterSilence, 3*afterSilence)
	if !s.nodes[2].runs() {
		s.nodes[2].start()
	}
	s.calm()
	s.end()
}

// Bytes that mean nothing come to all ports.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	rnd := rand.New(rand.NewPCG(7, 7))
	stranger := s.net.add()
	for _, port := range []string{peersPort, agreedPort, doorPort, nbdPort} {
		for _, n := range s.nodes {
			if n != s.nodes[0] && (port == agreedPort || port == doorPort) {
				continue // it has none
			}
			for i := range 20 {
				conn, err := stranger.dial(n.host.address() + port)
				if err != nil {
					t.Errorf("%s%s: %v", n.name, port, err)
					break
				}
				defer conn.Close()
				if i == 0 {
					continue // says nothing
				}
				p := make([]byte, 1<<(i/2+3))
				for k := range p {
					p[k] = byte(rnd.Uint32())
				}
				if i%3 == 0 { // what TLS begins with
					copy(p, []byte{22, 3, 1, 255, 255})
				}
				conn.SetDeadline(time.Now().Add(time.Second))
				conn.Write(p)
				if i%2 == 0 {
					conn.Close()
				}
			}
		}
	}
	wait(t, time.Second)
	s.paused("garbage came", slack, slack)
	s.healthy()
	s.end()
}

// A client is gone while its requests are under way, again and again.
func TestVanishingClients(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	l.nodes[1].order("create", "vm1", "64M")
	for i := range 10 {
		vanish(t, l.nodes[i%3])
	}
	c := l.open("vm1", 0)
	p := make([]byte, 1<<20)
	for off := int64(0); off < 64<<20; off += 1 << 20 {
		must(t, c.ReadAt(t.Context(), p, off, 0))
		for i := 1; i < len(p); i++ {
			if p[i] != p[i&^4095] {
				t.Fatalf("at %d there are %d and %d: a block is not what one write has made", off+int64(i), p[i&^4095], p[i])
			}
		}
	}
	must(t, c.WriteAt(t.Context(), p, 0, block.FUA))
	c.pause(t, "after clients have vanished", slack)
	must(t, c.Close())
	// Nobody has it open any more.
	until(t, "the volume to be deleted", func() bool {
		_, err := l.nodes[2].ask("delete", "vm1")
		return err == nil
	})
	// Copies differ while disks take it apart.
	until(t, "nothing of it to be left", func() bool {
		var families int
		must(t, l.nodes[2].call("Families", struct{}{}, &families))
		return families == 0
	})
	l.finish()
}

// vanish begins many writes by a node and goes away.
func vanish(t testing.TB, n *node) {
	t.Helper()
	var conn net.Conn
	d := nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}, Connect: func(context.Context) (_ net.Conn, err error) {
		conn, err = net.Dial("unix", filepath.Join(n.sockets, "nbd"))
		return conn, err
	}}
	var c *nbd.Client
	until(t, "the volume", func() (done bool) {
		var err error
		c, err = d.Dial(t.Context(), "nbd://x/vm1")
		return err == nil
	})
	var all sync.WaitGroup
	some := make(chan struct{}, 64)
	for i := range 64 {
		all.Go(func() {
			p := make([]byte, 1<<20)
			for k := range p {
				p[k] = byte(i)
			}
			for c.WriteAt(t.Context(), p, int64(i%16)<<22, 0) == nil {
				select {
				case some <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 8 {
		<-some
	}
	conn.Close()
	all.Wait()
	c.Close()
}

// The clock of one node is a day ahead of all others.
func TestOtherClock(t *testing.T) {
	t.Parallel()
	if out, err := try(t, "", "unshare", "--time", "--monotonic", "86400", "--boottime", "86400", "true"); err != nil {
		peer.Cannot(t, "no time of its own for a process: %v: %s", err, out)
	}
	s := newSceneWith(t, func(n *node) {
		if n.name == "node2" {
			n.before = []string{"unshare", "--time", "--monotonic", "86400", "--boottime", "86400"}
		}
	})
	s.nodes[2].kill()
	wait(t, lease)
	s.paused("the node was killed", afterKill, afterSilence)
	s.nodes[2].start()
	s.calm()
	s.nodes[1].kill()
	wait(t, lease)
	s.nodes[1].start()
	s.calm()
	s.end()
}
