package cluster

import (
	"encoding/json"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/cluster"
	daemon "github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/peer"
)

// Ports of nodes.
const (
	peersPort  = ":7001"
	agreedPort = ":7002"
	doorPort   = ":7003"
	votesPort  = ":7004"
	nbdPort    = ":10809"
)

// A node is a host with a data directory, and the process that runs there, if one
// does.
type node struct {
	child
	dir     string // data
	sockets string
	config  agentConfig
	// How the process is started, if not as usual.
	before []string
}

// newNode prepares a node.
func newNode(t testing.TB, name string, host *namespace) *node {
	t.Helper()
	a := host.address()
	n := &node{child: child{t: t, name: name, host: host}, dir: dataDir(t), sockets: shortDir(t)}
	n.config = agentConfig{
		Options: cluster.Options{
			Dir: filepath.Join(n.dir, "data"), Name: name, DiskSize: 1 << 30, Groups: 16, Lease: lease, Keep: lease,
			Listen: a + peersPort, Agreed: a + agreedPort, Votes: a + votesPort, Door: a + doorPort,
			Cache: 32 << 20, VoterGrace: 2 * lease,
		},
		Sockets: n.sockets, NBD: a + nbdPort,
	}
	n.atEnd()
	return n
}

// dataDir is a directory in memory, where there is one.
func dataDir(t testing.TB) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "strata-e2e"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

// tmpfs is a directory that is full when there are so many bytes in it.
func tmpfs(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		peer.Missing(t, "a tmpfs cannot be mounted: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// shortDir is a directory with a path that is short enough for sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// begin starts the process.
func (n *node) begin() {
	n.t.Helper()
	config, err := json.Marshal(n.config)
	must(n.t, err)
	self, err := os.Executable()
	must(n.t, err)
	n.launch(agentVar+"="+string(config), append(slices.Clone(n.before), self)...)
}

// start starts the process and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.begin()
	n.ready()
}

func (n *node) ready() {
	n.t.Helper()
	until(n.t, n.name+" to serve", func() bool {
		if !n.runs() {
			n.t.Fatalf("%s has ended: %v", n.name, n.err)
		}
		_, err := n.ask("id")
		return err == nil
	})
}

// fails starts a process that must not get anywhere, and returns what it says.
func (n *node) fails() string {
	n.t.Helper()
	before := len(n.log.String())
	n.begin()
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.t.Fatalf("%s does not end", n.name)
	}
	said := n.log.String()[before:]
	if n.err == nil {
		n.t.Errorf("%s has succeeded, and says %s", n.name, said)
	}
	return said
}

// call asks the process for something.
func (n *node) call(method string, arg, reply any) error {
	c, err := rpc.Dial("unix", filepath.Join(n.sockets, "orders"))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call("Orders."+method, arg, reply)
}

// control is a client of the control socket.
func (n *node) control() *daemon.Client { return daemon.NewClient(filepath.Join(n.sockets, "control")) }

// ask gives an order, and returns the reply.
func (n *node) ask(words ...string) (reply string, err error) {
	return reply, n.call("Do", words, &reply)
}

// order gives an order that must be carried out.
func (n *node) order(words ...string) string {
	n.t.Helper()
	reply, err := n.ask(words...)
	if err != nil {
		n.t.Fatalf("%s: %v", n.name, err)
	}
	return reply
}
