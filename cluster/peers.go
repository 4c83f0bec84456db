package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/remote"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// peers are the ways to other nodes.
type peers struct {
	mu    sync.Mutex
	nodes map[string]*otherNode
}

// An otherNode is the way to another node.
type otherNode struct {
	link *wire.Link
	peer *remote.Peer
	// incarnation is of the process that was asked for last.
	incarnation atomic.Pointer[string]
}

// openPeers lets this node reach others, and others this one.
func (n *Node) openPeers(context.Context) (err error) {
	n.peers.nodes = map[string]*otherNode{}
	n.later(n.hangUp)
	if n.o.Listen == "" {
		return nil
	}
	if n.listener, err = net.Listen("tcp", n.o.Listen); err != nil {
		return fmt.Errorf("listening to other nodes: %w", err)
	}
	n.wire = &wire.Server{
		Self: n.self(), TLS: n.identity.Server(nil), Verify: n.verify, Errors: farErrors(), Log: n.o.Log,
		Operations: n.farOperations(remote.Operations(func(disk string) replica.Peer {
			if d := n.disks[disk]; d != nil {
				return d.member
			}
			return nil
		})),
	}
	n.wire.Operations[opAsk] = wire.Operation{Handler: n.answerAsked}
	n.wire.Operations[opWork] = wire.Operation{Handler: n.answerOrder}
	n.work.Go(func() {
		if err := n.wire.Serve(n.listener); err != nil {
			n.o.Log.Error("this node does not listen to others any more", "error", err)
		}
	})
	n.later(n.wire.Close)
	return nil
}

// hangUp ends all connections to other nodes.
func (n *Node) hangUp() (err error) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for _, p := range n.peers.nodes {
		err = errors.Join(err, p.link.Close())
	}
	return err
}

func (n *Node) self() wire.Identity {
	return wire.Identity{Cluster: n.is.Cluster, Node: n.is.Node, Incarnation: n.incarnation}
}

// verify decides whether somebody is the node that he says he is.
func (n *Node) verify(state *tls.ConnectionState, who wire.Identity) error {
	p, err := n.identity.Check(*state)
	if err == nil && p.Node != who.Node {
		err = fmt.Errorf("the node %s says that it is %s", p.Node, who.Node)
	}
	if x, gone := n.outcasts.node(p.Node); err == nil && gone {
		err = fmt.Errorf("%w: %s, at %s", identity.ErrExpelled, p.Node, x.When.Format(time.RFC3339))
	}
	return err
}

// peer is the way to a disk, of this node or another one.
func (n *Node) peer(m record.Member) replica.Peer {
	if d := n.disks[m.Disk]; d != nil {
		return d.member
	}
	d, _ := n.state.View().Disks.Get(m.Disk)
	return n.other(d.Record.Node).as(m.Incarnation).peer
}

// as says which process of the node is meant. What was so of the one before, that it did
// not answer, must not be held against a new one.
func (p *otherNode) as(incarnation string) *otherNode {
	if last := p.incarnation.Swap(&incarnation); last == nil || *last != incarnation {
		p.link.Again()
	}
	return p
}

// other is the way to another node.
func (n *Node) other(node string) *otherNode {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	p := n.peers.nodes[node]
	if p == nil {
		p = &otherNode{link: wire.NewLink(wire.Options{
			Self: n.self(), Node: node, TLS: n.identity.Client(node, nil), Verify: n.verify, Errors: farErrors(),
			Dial: func(ctx context.Context) (net.Conn, error) { return n.dial(ctx, node) },
		})}
		p.peer = remote.NewPeer(p.link)
		n.peers.nodes[node] = p
	}
	return p
}

// dial connects to where a node is now.
func (n *Node) dial(ctx context.Context, node string) (net.Conn, error) {
	r, _ := n.state.View().Runs.Get(node)
	if r.Record.Peers == "" {
		return nil, fmt.Errorf("the node %q does not run, or listens to nobody", node)
	}
	return n.o.dial(ctx, "tcp", r.Record.Peers)
}
