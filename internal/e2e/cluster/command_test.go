package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/internal/race"
)

// program is the one that people use, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "strata")
	args := []string{"build", "-o", path}
	if race.Enabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../../../cmd/strata")...).CombinedOutput()
	if err != nil {
		err = &os.PathError{Op: string(out), Path: path, Err: err}
	}
	return path, err
})

// A process is "strata node" on a host.
type process struct {
	t      testing.TB
	path   string
	host   *namespace
	data   string
	socket string
	args   []string
	log    logBuffer
	cmd    *exec.Cmd
}

func (p *process) start() {
	p.t.Helper()
	words := append(p.host.enter(), p.path, "node", "--data", p.data, "--disk-size", "1G", "--groups", "16", "--lease", lease.String(), "--cache", "32M",
		"--listen", "unix://"+p.socket, "--listen", "tcp://"+p.host.address()+":10809", "--cluster-listen", p.host.address()+":10810", "--verbose")
	p.cmd = exec.Command(peer.Need(p.t, words[0]), append(words[1:], p.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	must(p.t, p.cmd.Start())
	until(p.t, "the node to serve", func() bool {
		_, err := p.try("volume", "ls")
		return err == nil
	})
}

func (p *process) end(s syscall.Signal) error {
	p.cmd.Process.Signal(s)
	return p.cmd.Wait()
}

// try carries out a command on the host.
func (p *process) try(words ...string) (string, error) {
	args := append(p.host.enter(), p.path)
	args = append(args, words[:2]...)
	args = append(append(args, "--data", p.data), words[2:]...)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	return string(out), err
}

func (p *process) run(words ...string) string {
	p.t.Helper()
	out, err := p.try(words...)
	if err != nil {
		p.t.Fatalf("strata %s: %v: %s", strings.Join(words, " "), err, out)
	}
	return out
}

// What the documentation tells people to do with three machines: they are joined, have a
// volume, one of them dies, and nobody has to do anything.
func TestCommands(t *testing.T) {
	t.Parallel()
	path, err := program()
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(path)) })
	network := newNetwork(t, 3)
	var nodes []*process
	for _, h := range network.hosts {
		p := &process{t: t, path: path, host: h, data: filepath.Join(dataDir(t), "data"), socket: filepath.Join(shortDir(t), "s")}
		nodes = append(nodes, p)
		t.Cleanup(func() {
			if p.cmd != nil {
				p.end(syscall.SIGKILL)
			}
			if t.Failed() {
				keepLog(t, "node"+h.port(), p.log.String())
			}
		})
	}
	nodes[0].start()
	token := strings.TrimSpace(strings.SplitN(nodes[0].run("cluster", "token"), "\n", 2)[0])
	for _, p := range nodes[1:] {
		p.args = []string{"--join", nodes[0].host.address(), "--token", token}
		p.start()
		p.args = nil
	}
	until(t, "three nodes to be up", func() bool {
		out, _ := nodes[0].try("cluster", "status", "--json")
		return strings.Count(out, `"state": "up"`) == 3
	})
	for _, p := range nodes {
		until(t, "three nodes to vote", func() bool {
			text, err := os.ReadFile(filepath.Join(p.data, "node"))
			return err == nil && strings.Count(string(text), "https://") == 3
		})
	}
	nodes[1].run("volume", "create", "vm1", "32M")
	says(t, nodes[1].run("volume", "show", "vm1"), "vm1", "32 MiB")
	fio := func(n *process, args ...string) {
		t.Helper()
		dir := t.TempDir()
		run(t, "sh", "-c", "cd "+dir+" && exec \"$@\"", "fio", "fio", "--ioengine=nbd", "--uri=nbd+unix:///vm1?socket="+n.socket, "--thread", "--name=v",
			"--output-format=terse", "--rw=randwrite", "--bs=4k", "--size=32M", "--io_size=8M", "--iodepth=8", "--randseed=3", "--fsync=64",
			"--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", strings.Join(args, " "))
	}
	until(t, "the volume to be known everywhere", func() bool {
		out, _ := nodes[2].try("volume", "ls")
		return strings.Contains(out, "vm1")
	})
	fio(nodes[2], "--do_verify=1")
	nodes[2].run("volume", "snapshot", "vm1", "monday")
	nodes[0].end(syscall.SIGKILL)
	began := time.Now()
	fio(nodes[1], "--verify_only")
	t.Logf("all was read %v after the death of the first node", time.Since(began).Round(time.Millisecond))
	nodes[1].run("volume", "clone", "vm1@monday", "vm2")
	says(t, nodes[1].run("volume", "tree", "vm1"), "monday", "vm2")
	nodes[0].start()
	until(t, "the cluster to be healthy", func() bool {
		out, _ := nodes[2].try("cluster", "status")
		return strings.Contains(out, "healthy") && !strings.Contains(out, "degraded") && strings.Count(out, "up") >= 3
	})
	for _, p := range nodes {
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Errorf("a node has stopped with %v", err)
		}
		p.cmd = nil
		p.start()
	}
	fio(nodes[0], "--verify_only")
	for _, p := range nodes {
		p.end(syscall.SIGTERM)
		p.cmd = nil
	}
}
