package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/source"
)

// lease is how long others do not do without a node that is silent.
const lease = 5 * time.Second

// A lab is a cluster.
type lab struct {
	t     testing.TB
	net   *network
	nodes []*node
}

// newLab starts a cluster of so many nodes, which prepare may change before.
func newLab(t testing.TB, count int, prepare ...func(*node)) *lab {
	t.Helper()
	l := &lab{t: t, net: newNetwork(t, count)}
	for i, h := range l.net.hosts {
		n := newNode(t, fmt.Sprintf("node%d", i), h)
		for _, f := range prepare {
			f(n)
		}
		l.nodes = append(l.nodes, n)
	}
	l.nodes[0].start()
	token := l.nodes[0].order("token")
	for _, n := range l.nodes[1:] {
		n.joins(l.nodes[0], token)
		n.start()
	}
	l.see()
	if count >= 3 {
		for _, n := range l.nodes {
			until(t, "three nodes to vote", func() bool { return n.voters(n.config.Dir) == 3 })
		}
	}
	return l
}

// joins prepares a node that is started for the first time.
func (n *node) joins(other *node, token string) {
	n.config.Join, n.config.Token = other.host.address()+doorPort, token
}

// see waits until all nodes that run see each other.
func (l *lab) see() {
	l.t.Helper()
	count := 0
	for _, n := range l.nodes {
		if n.runs() {
			count++
		}
	}
	for _, n := range l.nodes {
		if n.runs() {
			until(l.t, n.name+" to see all nodes", func() bool {
				var ids []string
				return n.call("Nodes", struct{}{}, &ids) == nil && len(ids) == count
			})
		}
	}
}

// healthy waits until all groups have all copies, and returns how long that took.
func (l *lab) healthy() time.Duration {
	l.t.Helper()
	began := time.Now()
	var h Health
	l.t.Cleanup(func() {
		if l.t.Failed() && h.Groups != h.Healthy {
			l.t.Logf("the groups were not healthy: %d of %d; %s", h.Healthy, h.Groups, strings.Join(h.Risks, "; "))
		}
	})
	l.see()
	until(l.t, "all groups to be healthy", func() bool {
		for _, n := range l.nodes {
			if n.runs() {
				h = Health{}
				err := n.call("Status", struct{}{}, &h)
				return err == nil && h.Healthy == h.Groups
			}
		}
		return false
	})
	return time.Since(began)
}

// finish stops all nodes, and looks at what is on their disks: nothing may be
// damaged, and all copies must be equal. There must be as many copies as nodes.
func (l *lab) finish() {
	l.t.Helper()
	l.healthy()
	for i := range l.nodes {
		l.nodes[len(l.nodes)-1-i].stop()
	}
	l.compare()
}

// compare looks at the disks of nodes that do not run.
func (l *lab) compare() {
	l.t.Helper()
	var first map[disk.Object]disk.Summary
	for _, n := range l.nodes {
		n.clean()
		objects := n.inspect()
		if first == nil {
			first = objects
			continue
		}
		differ := 0
		for id, a := range first {
			if b, ok := objects[id]; !ok || a.Digest != b.Digest {
				if differ++; differ <= 5 {
					l.t.Errorf("the object %v of %s has the digest %x and %d blocks, that of %s %x and %d", id, l.nodes[0].name, a.Digest, a.Blocks, n.name, b.Digest, b.Blocks)
				}
			}
			delete(objects, id)
		}
		for id, b := range objects {
			if differ++; differ <= 5 {
				l.t.Errorf("%s has the object %v of %d blocks, which %s has not", n.name, id, b.Blocks, l.nodes[0].name)
			}
		}
		if differ > 0 {
			l.t.Errorf("%d objects of %s and %s differ", differ, l.nodes[0].name, n.name)
		}
	}
	l.t.Logf("%d objects are equal on %d disks", len(first), len(l.nodes))
}

// inspect checks the disk of a node that does not run, and returns its objects.
func (n *node) inspect() map[disk.Object]disk.Summary {
	n.t.Helper()
	alone := n.diskConfig()
	alone.Trees = nil
	census, err := disk.Check(n.t.Context(), alone, true, func(err error) { n.t.Errorf("the disk of %s: %v", n.name, err) })
	must(n.t, err)
	must(n.t, alone.Slab.Close())
	if census.Unfinished != 0 {
		n.t.Errorf("the disk of %s has %d unfinished blocks", n.name, census.Unfinished)
	}
	d, err := disk.Open(n.t.Context(), n.diskConfig())
	must(n.t, err)
	objects := map[disk.Object]disk.Summary{}
	for s, err := range d.List(n.t.Context(), 0, ^uint64(0)) {
		must(n.t, err)
		objects[s.Object] = s
	}
	must(n.t, d.Close())
	return objects
}

// diskConfig is that of the disk of a node that does not run.
func (n *node) diskConfig() disk.Config {
	n.t.Helper()
	slab, err := source.File(n.t.Context(), source.FileOptions{Path: n.slab()})
	must(n.t, err)
	return disk.Config{Slab: slab, Dir: filepath.Join(n.config.Dir, "disks/0/meta"), Trees: noTrees{}}
}

func (n *node) slab() string { return filepath.Join(n.config.Dir, "disks/0/slab") }

// noTrees knows no tree.
type noTrees struct{}

func (noTrees) Tree(context.Context, uint64, uint64) (*family.Tree, error) {
	return nil, errors.New("there are no trees here")
}
