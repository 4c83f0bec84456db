package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/wire"
)

// run is how this process lets others know that it lives.
type run struct {
	mu    sync.Mutex
	lease *coord.Lease
	next  chan struct{} // closed when there is another one
	left  bool
	// banished is why the node is not to live any more, over is closed if this process
	// is to end for that.
	banished error
	over     chan struct{}
}

// banish ends the lease of a node that is not to be one: there is no other lease. It reports
// whether that is new.
func (r *run) banish(why error) bool {
	r.mu.Lock()
	first := r.banished == nil
	if first {
		r.banished = why
	}
	r.mu.Unlock()
	r.leave(context.Background())
	return first
}

func (r *run) isBanished() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.banished
}

// living is the lease that this node lives by when it is sure, for which it waits.
func (r *run) living(ctx context.Context) (*coord.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	for {
		r.mu.Lock()
		lease, next := r.lease, r.next
		r.mu.Unlock()
		if err := r.isBanished(); err != nil {
			return nil, err
		}
		err := lease.Wait(ctx)
		if !errors.Is(err, coord.ErrLeaseLost) {
			return lease, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
}

// current is the lease that this node lives by now.
func (r *run) current() *coord.Lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lease
}

// bury ends what the process before has held, the volumes that it had attached among it,
// so that nobody has to wait until its lease is over.
func (n *Node) bury(ctx context.Context) error {
	old, err := n.awaitEnd(ctx, n.store)
	if err == nil {
		err = n.newest(ctx, n.store)
	}
	if err != nil || old.Lease == 0 {
		return err
	}
	if err := n.store.Revoke(ctx, old.Lease); err != nil {
		return fmt.Errorf("ending what the process before has held: %w", err)
	}
	return nil
}

// appear lets others know of this process.
func (n *Node) appear(ctx context.Context) error {
	if err := n.live(ctx); err != nil {
		return err
	}
	n.later(func() error { n.run.leave(context.Background()); return nil })
	n.work.Go(n.keepAlive)
	n.work.Go(n.watchTwin)
	return nil
}

// connectTo connects to a node at an address.
func (n *Node) connectTo(ctx context.Context, node, address string) (*wire.Client, error) {
	return wire.Connect(ctx, wire.Options{
		Self: n.self(), Node: node, TLS: n.identity.Client(node, nil), Verify: n.verify, Errors: farErrors(),
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		},
	})
}

// live gets a lease, and puts the record of the process.
func (n *Node) live(ctx context.Context) error {
	lease, err := coord.NewLease(ctx, n.store, n.o.Lease)
	if err != nil {
		return fmt.Errorf("getting a lease: %w", err)
	}
	done, err := n.putRun(ctx, lease)
	if err == nil {
		_, err = n.state.Wait(ctx, done)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("telling that the node runs: %w", err), lease.Revoke(ctx))
	}
	n.run.mu.Lock()
	defer n.run.mu.Unlock()
	if n.run.next != nil {
		close(n.run.next)
	}
	n.run.lease, n.run.next = lease, make(chan struct{})
	return nil
}

// putRun puts the record of the process, unless there is one of another process.
func (n *Node) putRun(ctx context.Context, lease *coord.Lease) (coord.Revision, error) {
	r := record.Run{Incarnation: n.incarnation, Version: n.o.Version}
	if n.listener != nil {
		r.Peers = n.peersFind()
	}
	key := record.RunKey(n.is.Node)
	value, err := record.Encode(key, r)
	if err != nil {
		return 0, err
	}
	for {
		old, _, err := n.store.Get(ctx, key)
		if err == nil && old.Revision != 0 {
			err = n.mine(old)
		}
		if err != nil {
			return 0, err
		}
		_, admitted, err := n.admission(ctx)
		if err != nil {
			return 0, err
		}
		done, err := n.store.Txn(ctx, coord.Txn{
			If:   []coord.Compare{coord.IfRevision(key, old.Revision), admitted},
			Then: []coord.Op{coord.PutLeased(lease.ID(), key, value)},
		})
		if err != nil || done.Done {
			return done.Revision, err
		}
	}
}

// peersFind is where other nodes find this one.
func (n *Node) peersFind() string {
	if _, _, err := net.SplitHostPort(n.o.Advertise); err == nil {
		return n.o.Advertise
	}
	return n.o.found(n.listener.Addr().String())
}

// keepAlive is the goroutine that gets another lease when one was lost. Volumes are
// attached anew by those who use them.
func (n *Node) keepAlive() {
	for {
		n.untilLost(n.run.current())
		if n.ctx.Err() != nil || n.isClosing() || n.run.isBanished() != nil {
			return
		}
		n.o.Log.Warn("the cluster has not heard of this node for too long, its volumes will be attached anew")
		for {
			err := n.live(n.ctx)
			if err == nil {
				break
			}
			if errors.Is(err, ErrCopy) || errors.Is(err, identity.ErrExpelled) {
				n.giveUp(err)
				return
			}
			if !n.pause(n.ctx, leasePause) {
				return
			}
		}
	}
}

// untilLost returns when a lease is lost, or the node is to end. While the lease is in doubt
// other nodes are asked whether this one was expelled: those who vote do not talk to it then,
// and the lease is never known to be lost.
func (n *Node) untilLost(lease *coord.Lease) {
	for {
		select {
		case <-lease.Lost():
			return
		case <-lease.Doubt():
			if err := n.askPeers(n.ctx); errors.Is(err, identity.ErrExpelled) {
				n.giveUp(err)
				return
			}
			if !n.pause(n.ctx, doubtPause) {
				return
			}
		case <-n.ctx.Done():
			return
		}
	}
}

// doubtPause is how often other nodes are asked while the lease is in doubt.
const doubtPause = time.Second

func (n *Node) isClosing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closing
}

// leaveTime bounds how long the end of the lease is tried: without it its time is soon
// over anyway.
const leaveTime = time.Second

// leave ends the lease, once. However little time is left: others would wait for as long as
// the lease is.
func (r *run) leave(ctx context.Context) {
	r.mu.Lock()
	lease, left := r.lease, r.left
	r.left = true
	r.mu.Unlock()
	if left {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	_ = lease.Revoke(ctx)
}
