package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// proxyTime bounds how long another node is given to attach a volume for this one.
const proxyTime = 8 * time.Second

// errFarAway: the node that has attached a volume runs, and does not answer this one.
var errFarAway = errors.New("the node that has attached the volume does not answer this one")

// proxy lets another node serve the volume, which may reach those whom this one does
// not. What was attached here is given up as by a crash: all that was acknowledged is
// on all members. It returns nil if no node can. mu is held.
func (h *hold) proxy(ctx context.Context) *far {
	n := h.n
	if err := h.detach(ctx); err != nil {
		return nil
	}
	v := n.state.View()
	name, ok := h.name(v)
	if !ok {
		return nil
	}
	for _, node := range n.proxies(v, h.line, name.Size) {
		ctx, cancel := context.WithTimeout(ctx, proxyTime)
		f, err := n.adopt(ctx, node, h.line, replica.InfoOf(name.Size))
		cancel()
		if err == nil {
			n.o.Log.Warn("another node serves a volume for this one, which does not reach all that are needed", "family", h.line.Family, "line", h.line.Line, "node", node)
			return f
		}
	}
	return nil
}

// proxies are the other nodes that run, first those that have the most first members of
// a volume's groups.
func (n *Node) proxies(v *record.View, l record.Line, size int64) []string {
	first := map[string]int{}
	if f, _ := v.Families.Get(l.Family); f != nil {
		for _, number := range groupsOf(f.Volume.Record, size, v.Pool.Record.Groups) {
			if g, _ := v.Group(number); len(g.Members) > 0 {
				d, _ := v.Disks.Get(g.Members[0].Disk)
				first[d.Record.Node]++
			}
		}
	}
	var list []string
	for node := range v.Runs.All() {
		if node != n.is.Node {
			list = append(list, node)
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(first[b], first[a]) })
	return list
}

// lives reports whether the process of a member runs, as far as this node knows.
func (n *Node) lives(m record.Member) bool {
	v := n.state.View()
	d, _ := v.Disks.Get(m.Disk)
	r, ok := v.Runs.Get(d.Record.Node)
	return ok && r.Record.Incarnation == m.Incarnation
}

// adopt opens a volume at a node that is to attach it for this one, or to ask who has.
func (n *Node) adopt(ctx context.Context, node string, l record.Line, info block.Info) (*far, error) {
	f, err := n.reach(ctx, node, l, info)
	if err != nil {
		return nil, err
	}
	return f, f.do(ctx, wire.Call{Op: opAdopt, Timeout: proxyTime}, 0, 0, 0)
}

// A ward is a volume that this node serves for another one, in one of its sessions.
type ward struct {
	session *wire.Session
	line    record.Line
	// guest: the other node has opened what is attached here, rather than had it attached
	// for itself.
	guest bool
}

// A stay is what a ward has: a hold, of which it is a user like those of this node, until
// it is over.
type stay struct {
	hold *hold
	over chan struct{}
}

// takeWard opens a volume for another node: for as long as its session lasts, or it gives
// the volume up, that is like a user of this node.
func (n *Node) takeWard(ctx context.Context, s *wire.Session, l record.Line) error {
	h, err := n.hold(l)
	if err != nil {
		return err
	}
	if _, err := h.get(ctx, false); err != nil {
		h.leaveOwn()
		return err
	}
	n.mu.Lock()
	taken := n.enrol(ward{s, l, false}, h)
	n.mu.Unlock()
	if !taken {
		h.leaveOwn()
	}
	return nil
}

// welcome makes a session a user of what is attached here. It stays attached here as long
// as the other node has it open, as clients there would lose their connections if it were
// attached anew.
func (n *Node) welcome(s *wire.Session, l record.Line, h *hold) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !h.gone && n.enrol(ward{s, l, true}, h) {
		h.users++
		h.own++
	}
}

// enrol notes a ward until its session ends, or it leaves. It reports whether it is a new
// one. mu is held.
func (n *Node) enrol(w ward, h *hold) bool {
	if n.wards[w] != nil || n.closing {
		return false
	}
	is := &stay{h, make(chan struct{})}
	n.wards[w] = is
	n.work.Go(func() { // Close waits for it
		select {
		case <-w.session.Ended():
		case <-n.ctx.Done():
		case <-is.over:
		}
		n.dropWard(w)
	})
	return true
}

func (n *Node) isWard(w ward) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wards[w] != nil
}

// dropWard ends what enrol has begun, once.
func (n *Node) dropWard(w ward) {
	n.mu.Lock()
	is := n.wards[w]
	delete(n.wards, w)
	n.mu.Unlock()
	if is != nil {
		close(is.over)
		is.hold.leaveOwn()
	}
}
