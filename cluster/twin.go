package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// ErrCopy: another process is the same node.
var ErrCopy = errors.New("the node runs already")

// endTime is for how long beyond a lease the end of a process is awaited that cannot be
// reached.
const endTime = 5 * time.Second

// awaitEnd returns when the process before is dead, with what it has left, whose lease is 0 if
// there is nothing. As the data directory was not locked it is, unless this directory is a
// copy of that of a node that runs. So nobody may be at its address: who does not answer may
// only not be reached, and is dead when its lease has ended.
func (n *Node) awaitEnd(ctx context.Context, store coord.Store) (coord.Entry, error) {
	clock := store.Clock()
	for until, said := clock.Now()+n.o.Lease+endTime, false; ; said = true {
		old, _, err := store.Get(ctx, record.RunKey(n.is.Node))
		if err != nil || old.Lease == 0 {
			return coord.Entry{}, err
		}
		dead, address, err := n.dead(ctx, old)
		switch {
		case err != nil || dead:
			return old, err
		case clock.Now() > until:
			return old, n.copyError(address + ", where it does not answer, but its lease does not end")
		case !said:
			n.o.Log.Warn("the process before does not answer, and may still run: waiting for the end of its lease", "address", address)
		}
		if !coord.Sleep(ctx, clock, leasePause) {
			return old, context.Cause(ctx)
		}
	}
}

// dead reports whether nobody is where a process was that has left a record. It is an
// error if somebody is.
func (n *Node) dead(ctx context.Context, run coord.Entry) (dead bool, address string, err error) {
	r, err := record.Decode[record.Run](run.Key, run.Value)
	if err != nil || r.Peers == "" {
		return true, "", nil // it cannot be asked
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c, err := n.connectTo(ctx, n.is.Node, r.Peers)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED), r.Peers, nil
	}
	defer c.Close()
	if c.Peer().Incarnation == n.incarnation {
		return true, r.Peers, nil // we are, at the same address
	}
	return false, r.Peers, n.copyError(r.Peers)
}

func (n *Node) copyError(address string) error {
	return fmt.Errorf("node %s is another process at %s: the data directory %s is a copy of that of another node, or that one of this: %w", n.is.Node, address, n.home.Dir(), ErrCopy)
}

// mine returns an error if a record of this node is of another process.
func (n *Node) mine(run coord.Entry) error {
	r, err := record.Decode[record.Run](run.Key, run.Value)
	if err != nil || r.Incarnation == n.incarnation {
		return nil
	}
	return n.copyError(r.Peers)
}

// watchTwin is the goroutine that ends this process when another one is the same node. That
// one was started later, and has found nobody at the address of this one.
func (n *Node) watchTwin() {
	for v := n.state.View(); ; {
		if r, ok := v.Runs.Get(n.is.Node); ok && r.Record.Incarnation != n.incarnation {
			n.giveUp(n.copyError(r.Record.Peers))
			return
		}
		var err error
		if v, err = n.state.Next(n.ctx, v); err != nil {
			return
		}
	}
}

// giveUp lets this process be the node no more: another one is, or it was expelled.
func (n *Node) giveUp(why error) {
	if n.isClosing() || !n.run.banish(why) {
		return
	}
	n.o.Log.Error("this process ends, as it is not to be the node any more", "error", why)
	close(n.run.over)
}

// Over is closed when this process cannot be the node any more, and has to be closed. Err
// says why.
func (n *Node) Over() <-chan struct{} { return n.run.over }

// Err returns why Over is closed, and nil before that.
func (n *Node) Err() error {
	select {
	case <-n.run.over:
		return n.run.isBanished()
	default:
		return nil
	}
}
