package cluster

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/internal/peer"
)

// A network joins hosts by a bridge. Both it and each host are network namespaces
// that live as long as a process which waits for its input to end, so that nothing
// is left behind, even of a test that is killed.
type network struct {
	t      testing.TB
	bridge *namespace
	hosts  []*namespace
}

// A namespace is what a process outside of it can name.
type namespace struct {
	t      testing.TB
	pid    int
	number int
}

// newNetwork makes a network of so many hosts, which see each other.
func newNetwork(t testing.TB, hosts int) *network {
	t.Helper()
	peer.Need(t, "ip", "nsenter")
	if os.Geteuid() != 0 {
		peer.Missing(t, "network namespaces take root")
	}
	n := &network{t: t, bridge: newNamespace(t, 0)}
	n.bridge.ip("link add br0 type bridge", "link set br0 up")
	for range hosts {
		n.add()
	}
	return n
}

// add connects another host.
func (n *network) add() *namespace {
	h := newNamespace(n.t, len(n.hosts)+1)
	n.hosts = append(n.hosts, h)
	port := h.port()
	n.bridge.ip(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, h.pid),
		"link set "+port+" master br0 up")
	// Rules that drop come before the one that knows the own addresses.
	h.ip("addr add "+h.address()+"/24 dev eth0", "link set lo up", "link set eth0 up",
		"rule add prio 100 lookup local", "rule del prio 0")
	return h
}

func newNamespace(t testing.TB, number int) *namespace {
	t.Helper()
	cmd := exec.Command(peer.Need(t, "cat"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	must(t, err)
	if err := cmd.Start(); err != nil {
		peer.Missing(t, "no network namespace can be made: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &namespace{t: t, pid: cmd.Process.Pid, number: number}
}

func (h *namespace) address() string { return fmt.Sprintf("10.77.0.%d", h.number) }

// port is the end of the host's cable at the bridge.
func (h *namespace) port() string { return fmt.Sprintf("port%d", h.number) }

// enter are the words before those of a command in the namespace.
func (h *namespace) enter() []string {
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", h.pid), "--"}
}

// dial connects from there.
func (h *namespace) dial(address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread is of no use afterwards, and ends with the goroutine.
		runtime.LockOSThread()
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		var conn net.Conn
		if err == nil {
			conn, err = net.DialTimeout("tcp", address, 5*time.Second)
		}
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// ip carries out commands of ip(8) there.
func (h *namespace) ip(commands ...string) {
	h.t.Helper()
	words := append(h.enter(), "ip", "-batch", "-")
	if out, err := try(h.t, strings.Join(commands, "\n")+"\n", words[0], words[1:]...); err != nil {
		h.t.Fatalf("ip %q: %v: %s", commands, err, out)
	}
}

// deaf drops all that one host sends to another, on arrival and without a word.
func (n *network) deaf(to, from int) {
	n.t.Helper()
	n.hosts[to].ip(fmt.Sprintf("rule add from %s prio 1 blackhole", n.hosts[from].address()))
}

// cut separates two hosts.
func (n *network) cut(a, b int) {
	n.t.Helper()
	n.deaf(a, b)
	n.deaf(b, a)
}

// unplug takes the cable out of a host.
func (n *network) unplug(host int) {
	n.t.Helper()
	n.bridge.ip("link set " + n.hosts[host].port() + " down")
}

// slow lets so many megabits per second go to a host.
func (n *network) slow(host, megabits int) {
	n.t.Helper()
	words := append(n.bridge.enter(), "tc", "qdisc", "add", "dev", n.hosts[host].port(), "root",
		"tbf", "rate", fmt.Sprintf("%dmbit", megabits), "burst", "64k", "latency", "100ms")
	peer.Need(n.t, "tc")
	if out, err := try(n.t, "", words[0], words[1:]...); err != nil {
		peer.Cannot(n.t, "make a link slow: %v: %s", err, out)
	}
}

// heal ends all that keeps hosts from each other.
func (n *network) heal() {
	n.t.Helper()
	for _, h := range n.hosts {
		words := append(h.enter(), "sh", "-c", "while ip rule del prio 1 2>/dev/null; do :; done")
		run(n.t, words[0], words[1:]...)
		n.bridge.ip("link set " + h.port() + " up")
		words = append(n.bridge.enter(), "sh", "-c", "tc qdisc del dev "+h.port()+" root 2>/dev/null || true")
		run(n.t, words[0], words[1:]...)
	}
}
