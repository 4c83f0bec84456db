package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
	"github.com/strata-storage/strata/cluster/upkeep"
	"github.com/strata-storage/strata/cluster/wire"
)

// A Node is a running node. Its methods may be called from any goroutine at any time.
type Node struct {
	o           Options
	incarnation string
	home        *home.Home
	is          home.Record
	identity    *identity.Identity
	voting      voting
	store       coord.Store
	state       *record.State
	catalog     record.Catalog
	disks       disks
	broken      map[string]string // why disks of the node cannot be used
	peers       peers
	outcasts    outcasts
	wire        *wire.Server
	listener    net.Listener
	run         run
	outs        outs
	steward     atomic.Pointer[steward.Steward]

	// aging guards flushes, which is how often disks had flushed when that was noted last.
	aging   sync.Mutex
	flushes uint64

	board  *job.Board
	keeper *upkeep.Keeper

	// ctx is that of the work in the background.
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup
	// undo ends what was begun, the last of it first.
	undo []func() error

	mu      sync.Mutex
	closing bool
	holds   map[record.Line]*hold
	parting map[record.Line]int // how many holds are being given up
	wards   map[ward]*stay
}

// Start opens the data directory, or makes a cluster of one there, and takes part in
// the cluster. When it returns volumes can be opened. ctx is about the start only.
func Start(ctx context.Context, o Options) (*Node, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{o: o, incarnation: random(8), holds: map[record.Line]*hold{}, parting: map[record.Line]int{}, wards: map[ward]*stay{}, outs: newOuts(), run: run{over: make(chan struct{})}, board: cmp.Or(o.board, job.NewBoard())}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	if err := n.start(ctx); err != nil {
		n.cancel(err)
		return nil, errors.Join(fmt.Errorf("starting a node: %w", err), n.end())
	}
	o.Log.Info("the node has started", "cluster", n.is.Cluster, "node", n.is.Node, "incarnation", n.incarnation)
	return n, nil
}

// random returns so many random bytes in hexadecimal digits.
func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// later has something done at the end.
func (n *Node) later(f func() error) { n.undo = append(n.undo, f) }

// end ends what was begun.
func (n *Node) end() (err error) {
	for i := len(n.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, n.undo[i]())
	}
	n.undo = nil
	return err
}

func (n *Node) start(ctx context.Context) (err error) {
	if n.home, err = home.Open(n.o.Dir); err != nil {
		return err
	}
	n.later(n.home.Close)
	var made bool
	if n.is, made = n.home.Made(); made {
		err = n.resume(ctx)
	} else if n.o.Join != "" {
		err = n.enter(ctx)
	} else {
		err = n.found(ctx)
	}
	if err != nil {
		return err
	}
	n.catalog.Store = n.store
	if err := n.follow(ctx); err != nil {
		return fmt.Errorf("reading the records of the cluster: %w", err)
	}
	if pool := n.state.View().Pool.Record; pool.Cluster != n.is.Cluster {
		return fmt.Errorf("the records are those of the cluster %q, expected %s: %w", pool.Cluster, n.is.Cluster, home.ErrOther)
	}
	if err := n.admitted(ctx); err != nil {
		return err
	}
	// Before the disks are opened, which may take long: other nodes wait for it.
	if err := n.bury(ctx); err != nil {
		return err
	}
	if err := n.addDisks(ctx); err != nil {
		return err
	}
	if err := n.openDisks(ctx); err != nil {
		return err
	}
	n.newKeeper()
	n.later(func() error { n.work.Wait(); return nil })
	if err := n.openPeers(ctx); err != nil {
		return err
	}
	n.later(func() error { n.cancel(errStopped); return nil })
	if err := n.introduce(ctx); err != nil {
		return fmt.Errorf("telling the cluster of the node and its disks: %w", err)
	}
	if err := n.appear(ctx); err != nil {
		return err
	}
	if err := n.openDoor(ctx); err != nil {
		return err
	}
	n.launch()
	return nil
}

// launch starts the goroutines that work in the background until the end.
func (n *Node) launch() {
	n.work.Go(n.join)
	n.work.Go(n.tend)
	n.work.Go(n.growOpen)
	n.work.Go(n.tidyOpen)
	n.work.Go(func() { n.keeper.Run(n.ctx) })
	n.work.Go(n.followVoters)
	n.work.Go(n.watchDisks)
	n.work.Go(n.watchOuts)
	n.work.Go(n.watchExpelled)
	n.work.Go(n.growOld)
	if n.o.Votes != "" {
		n.work.Go(n.keepVoters)
	}
}

// follow gets a copy of the records, as soon as they can be read: nodes may be started in
// any order.
func (n *Node) follow(ctx context.Context) (err error) {
	for first := true; ; first = false {
		if n.state, err = record.Follow(ctx, n.store); err == nil {
			n.later(n.state.Close)
			return nil
		}
		if !errors.Is(err, coord.ErrUnavailable) {
			return err
		}
		if err := n.askPeers(ctx); err != nil {
			return err
		}
		if first {
			n.o.Log.Warn("waiting for the nodes on which the cluster agrees", "at", n.is.Agreed, "error", err)
		}
		if !n.pause(ctx, leasePause) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

var errStopped = errors.New("the node was stopped")

// resume opens what a node that was made before has.
func (n *Node) resume(ctx context.Context) (err error) {
	if n.identity, err = identity.Load(identity.In(n.home.Keys())); err != nil {
		return fmt.Errorf("data directory %s: reading the identity: %w", n.home.Dir(), err)
	}
	if err := n.home.Expect(n.identity.Cluster(), n.identity.Node()); err != nil {
		return fmt.Errorf("by the certificate in it: %w", err)
	}
	if n.o.Token != "" {
		t, err := identity.ParseToken(n.o.Token)
		if err == nil {
			err = n.home.Expect(t.Cluster, "")
		}
		if err != nil {
			return fmt.Errorf("by the token: %w", err)
		}
	}
	return n.agree(ctx)
}

// ID and Cluster are the names of the node and of its cluster.
func (n *Node) ID() string { return n.is.Node }

// Cluster is the name of the cluster.
func (n *Node) Cluster() string { return n.is.Cluster }

// Close gives up all volumes, so that other nodes can take them over, and stops.
// Devices that are open fail with block.ErrClosed. ctx bounds how long what goes on may
// take to end.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		return errStopped
	}
	n.closing = true
	n.mu.Unlock()
	n.releaseAll(ctx)
	n.lastAge(ctx)
	n.run.leave(ctx) // which gives up all that is still attached
	if n.wire != nil {
		_ = n.wire.Shutdown(ctx) // it cuts off who is still there
	}
	return n.end()
}
