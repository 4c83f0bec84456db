package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/record"
)

// authorityKey is the entry with the authority of the cluster: each node can make
// certificates for those that join.
const authorityKey = "secret/authority"

// found makes a cluster of one.
func (n *Node) found(ctx context.Context) error {
	if err := n.makeCluster(ctx); err != nil {
		return fmt.Errorf("making a cluster: %w", err)
	}
	return nil
}

func (n *Node) makeCluster(ctx context.Context) error {
	if err := n.begin(ctx); err != nil {
		return err
	}
	n.is = home.Record{Cluster: identity.NewCluster(), Node: random(8)}
	authority, err := identity.NewAuthority(n.is.Cluster)
	if err != nil {
		return err
	}
	secret, err := authority.PEM()
	if err != nil {
		return err
	}
	if err := n.certify(authority); err != nil {
		return err
	}
	var nobody expelled
	if err := nobody.sign(authority); err != nil {
		return err
	}
	if err := n.cast(nobody); err != nil {
		return err
	}
	// Both wait for the disk of the machine.
	var both sync.WaitGroup
	var diskErr error
	both.Go(func() { diskErr = n.makeDisks(ctx) })
	err = n.foundEtcd(ctx)
	both.Wait()
	if err := errors.Join(err, diskErr); err != nil {
		return err
	}
	pool := record.Pool{Cluster: n.is.Cluster, Format: record.Format, Groups: n.o.Groups}
	if err := n.putFirst(ctx, pool, secret, nobody); err != nil {
		return err
	}
	return n.home.Finish(n.is)
}

// foundEtcd begins what the cluster agrees on.
func (n *Node) foundEtcd(ctx context.Context) error {
	if err := n.takeSeat(); err != nil {
		return err
	}
	if err := n.voting.seat.Found(ctx); err != nil {
		return err
	}
	return n.connect(n.voting.seat.Endpoint())
}

// certify gives the node its identity.
func (n *Node) certify(a *identity.Authority) error {
	request, err := identity.NewRequest()
	if err != nil {
		return err
	}
	cert, err := a.Issue(n.is.Node, request.Bytes())
	if err != nil {
		return err
	}
	return n.become(request, a.Certificate(), cert)
}

// become keeps an identity.
func (n *Node) become(request *identity.Request, authority, cert []byte) (err error) {
	if n.identity, err = identity.New(request, authority, cert); err != nil {
		return err
	}
	if err := os.MkdirAll(n.home.Keys(), 0o700); err != nil {
		return err
	}
	return n.identity.Save(identity.In(n.home.Keys()))
}

// putFirst puts what a cluster has from the beginning.
func (n *Node) putFirst(ctx context.Context, pool record.Pool, authority []byte, nobody expelled) error {
	value, err := record.Encode(record.PoolKey, pool)
	if err != nil {
		return err
	}
	list, err := json.Marshal(nobody)
	if err != nil {
		return err
	}
	r, err := n.store.Txn(ctx, coord.Txn{
		If:   []coord.Compare{coord.IfAbsent(record.PoolKey)},
		Then: []coord.Op{coord.Put(record.PoolKey, value), coord.Put(authorityKey, authority), coord.Put(expelledKey, list)},
	})
	if err == nil && !r.Done {
		err = errors.New("a new member of etcd has records already")
	}
	return err
}

// introduce puts the records of the node and its disks where there are none, and that of
// the node also if something about it is another than before. The directory is finished
// before that: a record of a node that was not would stay.
func (n *Node) introduce(ctx context.Context) error {
	for {
		r, err := n.tryIntroduce(ctx)
		if err != nil || r.Done {
			return err
		}
		// Somebody has changed one of them.
		if _, err := n.state.Wait(ctx, r.Revision); err != nil {
			return err
		}
	}
}

func (n *Node) tryIntroduce(ctx context.Context) (done coord.Result, err error) {
	v := n.state.View()
	e, _ := v.Nodes.Get(n.is.Node)
	if err := n.countStart(e.Record.Starts); err != nil {
		return done, err
	}
	x, admitted, err := n.admission(ctx)
	if err != nil {
		return done, err
	}
	t := coord.Txn{If: []coord.Compare{admitted}}
	put := func(key string, r record.Record, was coord.Revision) error {
		value, err := record.Encode(key, r)
		t.If = append(t.If, coord.IfRevision(key, was))
		t.Then = append(t.Then, coord.Put(key, value))
		return err
	}
	if is := n.describe(e.Record); e.Record != is {
		err = put(record.NodeKey(n.is.Node), is, e.Revision)
	}
	for _, d := range n.is.Disks {
		was, _ := v.Disks.Get(d.ID)
		if _, gone := find(x.Disks, d.ID); gone {
			continue
		}
		if is := n.describeDisk(d, was.Record); is.Size > 0 && is != was.Record {
			err = errors.Join(err, put(record.DiskKey(d.ID), is, was.Revision))
		}
	}
	if err != nil || len(t.Then) == 0 {
		return coord.Result{Done: true}, err
	}
	return n.store.Txn(ctx, t)
}

// describe is the record of the node, which was another one before.
func (n *Node) describe(was record.Node) record.Node {
	return record.Node{
		ID: n.is.Node, Name: n.o.Name, Zone: cmp.Or(n.o.Zone, was.Zone, n.is.Node), Draining: was.Draining,
		Votes: n.votes(), Serial: n.identity.Peer().Serial, Starts: n.is.Starts,
	}
}

// describeDisk is the record of a disk of the node, which was another one before.
func (n *Node) describeDisk(d home.Disk, was record.Disk) record.Disk {
	is := was
	is.ID, is.Node, is.Failed = d.ID, n.is.Node, clip(n.broken[d.ID])
	if own := n.disks[d.ID]; own != nil {
		if is.Size == 0 {
			is.Weight = own.size
		}
		is.Size = own.size
	}
	for _, o := range n.o.Disks {
		if o.Path == d.Path && o.Weight != 0 && is.Size != 0 {
			is.Weight = o.Weight
		}
	}
	return is
}
