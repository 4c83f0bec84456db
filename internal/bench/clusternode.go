package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/strata-storage/strata/internal/control"
)

// A clusterNode is a process that is a node of a cluster.
type clusterNode struct {
	data, socket string
	port         int // of three
	cmd          *exec.Cmd
	done         chan struct{} // closed when the process has ended
	control      *control.Client
}

// A clusterBed is a cluster that is measured, all on this machine. Its nodes are one
// process group.
type clusterBed struct {
	l     *lab
	name  string
	dir   string
	group int
	token string
	nodes []*clusterNode
}

const (
	// clusterDisk is the size of the disk of each node, sparse.
	clusterDisk = "8G"
	// firstPort is where those of nodes begin.
	firstPort = 21000
	// clusterPatience bounds how long something of a cluster is waited for.
	clusterPatience = 90 * time.Second
)

// openCluster starts nodes with their data in a folder of their own.
func (l *lab) openCluster(ctx context.Context, name string, nodes int) (*clusterBed, error) {
	l.count++
	b := &clusterBed{l: l, name: name, dir: filepath.Join(l.o.dir, fmt.Sprintf("cluster%d", l.count))}
	for i := range nodes {
		data := filepath.Join(b.dir, fmt.Sprintf("n%d", i+1))
		if err := os.MkdirAll(data, 0o700); err != nil {
			return nil, err
		}
		path := filepath.Join(l.run, fmt.Sprintf("n%d-%d", l.count, i+1))
		b.nodes = append(b.nodes, &clusterNode{
			data: data, socket: path + ".s", port: firstPort + 100*l.count + 10*i, control: control.NewClient(path+".c", "node"),
		})
		if err := b.start(ctx, i); err != nil {
			b.close()
			return nil, err
		}
	}
	if nodes == 1 {
		return b, nil // there is nothing to wait for
	}
	return b, b.settle(ctx)
}

// start starts a node, for the first time or again, and waits until it can be asked.
func (b *clusterBed) start(ctx context.Context, i int) error {
	n := b.nodes[i]
	os.Remove(n.socket)
	os.Remove(n.control.Path())
	args := []string{"node", "--quiet", "--data", n.data, "--name", fmt.Sprintf("n%d", i+1), "--disk-size", clusterDisk,
		"--cluster-listen", fmt.Sprintf("127.0.0.1:%d", n.port), "--listen", "unix://" + n.socket, "--control", n.control.Path()}
	if i > 0 && b.token == "" {
		var t struct {
			Token string `json:"token"`
		}
		if err := b.nodes[0].control.Post(ctx, "/v1/cluster/token", map[string]int{"seconds": 3600}, &t); err != nil {
			return fmt.Errorf("a token: %w", err)
		}
		b.token = t.Token
	}
	if entries, _ := os.ReadDir(n.data); i > 0 && len(entries) == 0 {
		args = append(args, "--join", fmt.Sprintf("127.0.0.1:%d", b.nodes[0].port), "--token", b.token)
	}
	log, err := os.OpenFile(n.socket+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(b.l.o.strata, args...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: b.group, Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	if b.group == 0 {
		b.group = n.cmd.Process.Pid
	}
	done := make(chan struct{})
	n.done = done
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		close(done)
	}(n.cmd)
	return b.awaitNode(ctx, n)
}

// awaitNode waits until a node answers.
func (b *clusterBed) awaitNode(ctx context.Context, n *clusterNode) error {
	var err error
	for begin := time.Now(); time.Since(begin) < clusterPatience; {
		var list any
		if err = n.control.Get(ctx, "/v1/volumes", &list); err == nil {
			return nil
		}
		select {
		case <-n.done:
			text, _ := os.ReadFile(n.socket + ".log")
			return fmt.Errorf("a node has ended: %s", text)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
	return err
}

// kill ends a node without a warning.
func (b *clusterBed) kill(i int) error {
	n := b.nodes[i]
	err := n.cmd.Process.Kill()
	<-n.done
	return err
}

// clusterState is what a node says about all groups.
type clusterState struct {
	State  string         `json:"state"`
	Groups int            `json:"groups"`
	States map[string]int `json:"states"`
	Nodes  []struct {
		State string `json:"state"`
	} `json:"nodes"`
}

// well reports whether so many nodes run, and all groups have what they should.
func (s *clusterState) well(nodes int) bool {
	up := 0
	for _, n := range s.Nodes {
		if n.State == "up" {
			up++
		}
	}
	return up == nodes && s.States["healthy"] == s.Groups
}

// settleCalm is for how long a cluster must have been well to say that it is, and settleLook
// between two looks, each of which is work for all nodes.
const (
	settleCalm = time.Second
	settleLook = 50 * time.Millisecond
)

// settle waits until all nodes run, and all groups have had what they should for a while:
// a node that was just started is not missed at once.
func (b *clusterBed) settle(ctx context.Context) error {
	var s clusterState
	well := time.Time{}
	for begin := time.Now(); time.Since(begin) < clusterPatience; {
		s = clusterState{}
		if err := b.nodes[0].control.Get(ctx, "/v1/cluster", &s); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		switch {
		case !s.well(len(b.nodes)):
			well = time.Time{}
		case well.IsZero():
			well = time.Now()
		case time.Since(well) >= settleCalm:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settleLook):
		}
	}
	return fmt.Errorf("%s: it is not well after %v: %+v", b.name, clusterPatience, s)
}

// volume makes a volume, which is filled if that is wanted.
func (b *clusterBed) volume(ctx context.Context, name string, copies int, fill bool) error {
	spec := map[string]any{"name": name, "size": int64(b.l.o.size) << 20, "copies": copies}
	var made any
	if err := b.nodes[0].control.Post(ctx, "/v1/volumes/create", spec, &made); err != nil {
		return fmt.Errorf("making the volume %s: %w", name, err)
	}
	if !fill {
		return nil
	}
	out, err := exec.CommandContext(ctx, b.l.o.strata, "copy", b.l.image, b.uri(0, name)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("filling the volume %s: %w: %s", name, err, out)
	}
	return b.settle(ctx)
}

// change asks the first node for something: a snapshot, a clone, the end of either.
func (b *clusterBed) change(ctx context.Context, verb string, q map[string]any) error {
	var answer any
	return b.nodes[0].control.Post(ctx, "/v1/volumes/"+verb, q, &answer)
}

func (b *clusterBed) uri(i int, volume string) string {
	return fmt.Sprintf("nbd+unix:///%s?socket=%s", volume, b.nodes[i].socket)
}

// serving is a volume as a server that is measured.
func (b *clusterBed) serving(name, volume string) *running {
	return &running{server: server{name: name}, place: place{transport: overUnix}, uri: b.uri(0, volume), group: b.group}
}

// close ends all nodes and removes what they have.
func (b *clusterBed) close() {
	for _, n := range b.nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			n.cmd.Process.Kill()
			<-n.done
		}
		for _, path := range []string{n.socket, n.control.Path()} {
			os.Remove(path)
		}
	}
	if err := os.RemoveAll(b.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}
