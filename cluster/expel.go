package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/wire"
)

// expelledKey is the entry with the nodes and disks that were expelled, for good: their IDs
// are not used again.
const expelledKey = "expelled"

// An expulsion is the end of a node or disk.
type expulsion struct {
	ID string `json:"id"`
	// Name is what people called it, Serial the number of its certificate if it is a
	// node, and Node that of a disk.
	Name   string    `json:"name,omitempty"`
	Serial string    `json:"serial,omitempty"`
	Node   string    `json:"node,omitempty"`
	When   time.Time `json:"when"`
}

// expelled are all nodes and disks that were expelled.
type expelled struct {
	// Number is that of the list of certificates, List the list, in DER.
	Number uint64      `json:"number"`
	List   []byte      `json:"list"`
	Nodes  []expulsion `json:"nodes,omitempty"`
	Disks  []expulsion `json:"disks,omitempty"`
}

func (e *expelled) node(id string) (expulsion, bool) { return find(e.Nodes, id) }

func find(list []expulsion, id string) (expulsion, bool) {
	i := slices.IndexFunc(list, func(x expulsion) bool { return x.ID == id })
	if i < 0 {
		return expulsion{}, false
	}
	return list[i], true
}

// sign makes the list of certificates.
func (e *expelled) sign(a *identity.Authority) (err error) {
	var peers []identity.Peer
	for _, x := range e.Nodes {
		if x.Serial != "" {
			peers = append(peers, identity.Peer{Node: x.ID, Serial: x.Serial})
		}
	}
	e.Number++
	e.List, err = a.Revocations(e.Number, peers)
	return err
}

// outcasts are what this node knows of who was expelled.
type outcasts struct {
	mu  sync.Mutex
	all expelled
}

func (o *outcasts) node(id string) (expulsion, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.node(id)
}

// revoked is the file with the list of certificates, for etcd.
func (n *Node) revoked() string { return filepath.Join(n.home.Keys(), "revoked") }

// getExpelled reads who was expelled.
func (n *Node) getExpelled(ctx context.Context) (e expelled, was coord.Entry, err error) {
	if was, _, err = n.store.Get(ctx, expelledKey); err == nil && was.Revision != 0 {
		err = json.Unmarshal(was.Value, &e)
	}
	if err != nil {
		err = fmt.Errorf("reading who was expelled: %w", err)
	}
	return e, was, err
}

// admitted refuses to start a node that was expelled, and lets go of its disks that were.
func (n *Node) admitted(ctx context.Context) error {
	e, _, err := n.getExpelled(ctx)
	if err != nil {
		return err
	}
	if err := n.cast(e); err != nil {
		return err
	}
	is, _ := n.home.Made()
	is.Disks = slices.DeleteFunc(slices.Clone(is.Disks), func(d home.Disk) bool {
		x, gone := find(e.Disks, d.ID)
		if gone {
			n.o.Log.Warn("a disk of the node was forgotten by the cluster, and is not used any more", "disk", d.ID, "path", d.Path, "when", x.When)
		}
		return gone
	})
	if len(is.Disks) == len(n.is.Disks) {
		return nil
	}
	n.is.Disks = is.Disks
	return n.home.Change(is)
}

// cast notes who was expelled, which is an error if it is this node.
func (n *Node) cast(e expelled) error {
	n.outcasts.mu.Lock()
	n.outcasts.all = e
	n.outcasts.mu.Unlock()
	if x, me := e.node(n.is.Node); me {
		return n.expelledError(x)
	}
	if len(e.List) == 0 {
		return nil
	}
	return home.Replace(n.revoked(), e.List)
}

// admission returns who was expelled, and a condition for what this node says of itself: that
// nobody was since. Otherwise one that is forgotten while it starts would be there again.
func (n *Node) admission(ctx context.Context) (e expelled, since coord.Compare, err error) {
	e, was, err := n.getExpelled(ctx)
	if err == nil {
		err = n.cast(e)
	}
	return e, coord.IfRevision(expelledKey, was.Revision), err
}

func (n *Node) expelledError(x expulsion) error {
	return fmt.Errorf("%w: the node %s of the cluster %s, at %s; it can join again with a new data directory",
		identity.ErrExpelled, n.is.Node, n.is.Cluster, x.When.Format(time.RFC3339))
}

// maxPeers is how many other nodes are noted.
const maxPeers = 8

// notePeers notes where some other nodes are.
func (n *Node) notePeers() {
	var list []home.Peer
	for id, e := range n.state.View().Runs.All() {
		if id != n.is.Node && e.Record.Peers != "" && len(list) < maxPeers {
			list = append(list, home.Peer{Node: id, Address: e.Record.Peers})
		}
	}
	is, _ := n.home.Made()
	if len(list) == 0 || slices.Equal(list, is.Peers) {
		return
	}
	if err := n.home.Edit(func(r *home.Record) { r.Peers = list }); err != nil {
		n.o.Log.Warn("where other nodes are cannot be noted", "error", err)
	}
}

// askPeers asks other nodes whether this one was expelled: those who vote do not talk to it
// then.
func (n *Node) askPeers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sayAfter)
	defer cancel()
	is, _ := n.home.Made()
	var asking sync.WaitGroup
	errs := make([]error, len(is.Peers))
	for i, p := range is.Peers {
		asking.Go(func() {
			c, err := n.connectTo(ctx, p.Node, p.Address)
			if err == nil {
				_ = c.Close()
			} else if errors.Is(err, identity.ErrExpelled) {
				errs[i] = fmt.Errorf("%w; it can join again with a new data directory", err)
			}
		})
	}
	asking.Wait()
	for _, err := range errs {
		if err != nil {
			return err // all of them say the same
		}
	}
	return nil
}

// watchExpelled is the goroutine that hears of nodes that are expelled.
func (n *Node) watchExpelled() {
	for n.ctx.Err() == nil {
		e, was, err := n.getExpelled(n.ctx)
		if err != nil {
			n.pause(n.ctx, leasePause)
			continue
		}
		n.hearExpelled(e)
		after := was.Revision
		for _, err := range n.store.Watch(n.ctx, expelledKey, after) {
			if err != nil {
				n.pause(n.ctx, leasePause)
			}
			break
		}
	}
}

// hearExpelled ends what there is with nodes that were expelled.
func (n *Node) hearExpelled(e expelled) {
	if err := n.cast(e); errors.Is(err, identity.ErrExpelled) {
		n.giveUp(err)
		return
	} else if err != nil {
		n.o.Log.Error("a node that was expelled is not kept from what the cluster agrees on", "error", err)
	}
	if n.wire == nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, voteTime)
	defer cancel()
	err := n.wire.End(ctx, func(s *wire.Session) bool {
		_, gone := e.node(s.Peer().Node)
		return gone
	})
	if err != nil && n.ctx.Err() == nil {
		n.o.Log.Warn("a session of a node that was expelled does not end", "error", err)
	}
}
