package cluster

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

// saysOr is says, unless something else is said.
func saysOr(t testing.TB, text, other string, want ...string) {
	t.Helper()
	if !strings.Contains(text, other) {
		says(t, text, want...)
	}
}

// forgotten is what a member says that voted with another copy of its directory.
const forgotten = "what the node has agreed to with others is not in its data directory"

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
// has cloned its machine: it is refused whether it reaches the original or not. If it was
// started while nobody could know that, and the original comes back, that ends. A copy that
// is older than what the node has written since is refused in any case.
func TestClonedNode(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	original := s.nodes[2]
	original.stop()
	older := newNode(t, "older", s.net.add())
	clone := func(n *node) { run(t, "cp", "-a", "--sparse=always", original.config.Dir+"/.", n.config.Dir+"/") }
	must(t, os.MkdirAll(older.config.Dir, 0o700))
	clone(older)
	original.start()
	s.calm()
	says(t, older.fails(), "is a copy of that of another node", "the node runs already")
	s.paused("a twin that reaches the original was started", slack, slack)
	s.net.cut(2, 3)
	says(t, older.fails(), "its lease does not end", "is a copy of that of another node", "the node runs already")
	s.net.heal()
	s.paused("a twin that does not was started", slack, slack)
	if !original.runs() {
		t.Error("the original has ended")
	}
	original.stop()
	says(t, older.fails(), "it is an older copy", "the data directory is out of date")
	original.start()
	s.calm()
	// The lease of the original ends.
	twin := newNode(t, "twin", older.host)
	must(t, os.MkdirAll(twin.config.Dir, 0o700))
	original.freeze()
	clone(twin)
	twin.start()
	original.thaw()
	select {
	case <-original.ended:
		says(t, original.log.String(), "this process ends")
	case <-time.After(patience):
		t.Error("the original goes on beside the twin")
	}
	// The others may be too busy to say so before the member that votes finds out itself.
	saysOr(t, original.fails(), forgotten, "is a copy of that of another node", "the node runs already")
	twin.stop()
	saysOr(t, original.fails(), forgotten, "it is an older copy")
	twin.start()
	s.nodes[2] = twin
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
	var why atomic.Pointer[error]
	some := make(chan struct{}, 64)
	for i := range 64 {
		all.Go(func() {
			p := make([]byte, 1<<20)
			for k := range p {
				p[k] = byte(i)
			}
			err := c.WriteAt(t.Context(), p, int64(i%16)<<22, 0)
			for ; err == nil; err = c.WriteAt(t.Context(), p, int64(i%16)<<22, 0) {
				select {
				case some <- struct{}{}:
				default:
				}
			}
			why.CompareAndSwap(nil, &err)
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	// The node ends the connection if the volume is attached anew.
	for written := 0; written < 8; written++ {
		select {
		case <-some:
		case <-ended:
			t.Logf("after %d writes the node has ended the connection: %v", written, *why.Load())
			written = 8
		}
	}
	conn.Close()
	<-ended
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
