package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	daemon "github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/race"
)

// programs is where program is built; TestMain removes it.
var programs string

// program is the one that people use, built once.
var program = sync.OnceValues(func() (path string, err error) {
	if programs, err = os.MkdirTemp("", "e2e"); err != nil {
		return "", err
	}
	path = filepath.Join(programs, "strata")
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
	child
	path   string
	data   string
	socket string
	args   []string
}

func (p *process) start() {
	p.t.Helper()
	p.launch("", append([]string{
		p.path, "node", "--data", p.data, "--name", p.name, "--groups", "16", "--lease", lease.String(), "--cache", "32M",
		"--listen", "unix://" + p.socket, "--listen", "tcp://" + p.host.address() + ":10809", "--cluster-listen", p.host.address() + ":10810", "--verbose",
	}, p.args...)...)
	until(p.t, "the node to serve", func() bool {
		_, err := p.try("volume", "ls")
		return err == nil
	})
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

// fio works on a volume at the node.
func (p *process) fio(volume string, args ...string) {
	p.t.Helper()
	fioAt(p.t, "nbd+unix:///"+volume+"?socket="+p.socket, args...)
}

// fioAt writes the same 8 MiB each time, with flushes, or verifies them.
func fioAt(t testing.TB, uri string, args ...string) {
	t.Helper()
	words := append([]string{"-c", "cd " + t.TempDir() + " && exec \"$@\"", "fio", "fio", "--ioengine=nbd", "--uri=" + uri, "--thread", "--name=v",
		"--output-format=terse", "--rw=randwrite", "--bs=4k", "--size=32M", "--io_size=8M", "--iodepth=8", "--randseed=3", "--fsync=64",
		"--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"}, args...)
	run(t, "sh", words...)
}

// status is that of the cluster, as the node sees it, if it answers.
func (p *process) status() (*daemon.ClusterStatus, error) {
	return daemon.NewClient(filepath.Join(p.data, "control.sock")).ClusterStatus(p.t.Context())
}

// A site is a cluster of such processes, each on a host of its own.
type site struct {
	t     testing.TB
	net   *network
	nodes []*process
	hosts int // with nodes
}

// oneDisk are the flags of a node with a disk in its data directory.
var oneDisk = []string{"--disk-size", "1G"}

// newSite starts a node with each of the flags, nil for one with a disk of its own.
func newSite(t testing.TB, flags ...[]string) *site {
	t.Helper()
	s := &site{t: t, net: newNetwork(t, len(flags))}
	for _, f := range flags {
		s.add(f)
	}
	s.up(len(flags))
	voters := 1
	if len(flags) >= 3 {
		voters = 3
	}
	until(t, "enough nodes to vote", func() bool { return s.voters() == voters })
	return s
}

// add starts one more node, on the next host.
func (s *site) add(flags []string) *process {
	s.t.Helper()
	path, err := program()
	must(s.t, err)
	if s.hosts == len(s.net.hosts) {
		s.net.add()
	}
	h := s.net.hosts[s.hosts]
	s.hosts++
	if flags == nil {
		flags = oneDisk
	}
	p := &process{child: child{t: s.t, name: fmt.Sprint("node", h.number), host: h}, path: path, data: filepath.Join(dataDir(s.t), "data"), socket: filepath.Join(shortDir(s.t), "s"), args: flags}
	p.atEnd()
	for _, other := range s.nodes {
		if other.runs() {
			token, _, _ := strings.Cut(other.run("cluster", "token"), "\n")
			p.args = append(slices.Clone(flags), "--join", other.host.address(), "--token", strings.TrimSpace(token))
			break
		}
	}
	p.start()
	p.args = flags
	s.nodes = append(s.nodes, p)
	return p
}

// up waits until all nodes that run know that so many do.
func (s *site) up(count int) {
	s.t.Helper()
	s.await("all nodes to be up", func(st *daemon.ClusterStatus) bool {
		up := 0
		for _, n := range st.Nodes {
			if n.State == "up" {
				up++
			}
		}
		return up == count
	})
}

// healthy waits until so many nodes are up and all groups have what they should.
func (s *site) healthy(count int) {
	s.t.Helper()
	s.up(count)
	s.await("all groups to be healthy", func(st *daemon.ClusterStatus) bool { return st.States["healthy"] == st.Groups })
}

// known waits until all nodes know a volume.
func (s *site) known(volume string) {
	s.t.Helper()
	for _, p := range s.nodes {
		until(s.t, "the volume to be known", func() bool {
			_, err := p.try("volume", "show", volume)
			return !p.runs() || err == nil
		})
	}
}

// await waits until all nodes that run say what they should.
func (s *site) await(what string, is func(*daemon.ClusterStatus) bool) {
	s.t.Helper()
	for _, p := range s.nodes {
		until(s.t, what, func() bool {
			if !p.runs() {
				return true
			}
			st, err := p.status()
			return err == nil && is(st)
		})
	}
}

// voters is how many nodes vote, as all that run know, or 0.
func (s *site) voters() (count int) {
	s.t.Helper()
	for _, p := range s.nodes {
		if !p.runs() {
			continue
		}
		n := p.voters(p.data)
		if count != 0 && n != count {
			return 0
		}
		count = n
	}
	return count
}

// stop ends all nodes.
func (s *site) stop() {
	s.t.Helper()
	for _, p := range s.nodes {
		if p.cmd != nil && !p.runs() {
			s.t.Errorf("%s has ended by itself: %v", p.name, p.err)
		}
		p.stop()
	}
}
