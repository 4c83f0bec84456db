package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/record"
)

// ErrOlder: the data directory is an older copy of that of the node.
var ErrOlder = errors.New("the data directory is out of date")

// A data directory counts the starts of its node and, while its disks are written, each time
// that it has noted that it goes on. The cluster knows the number, and never knows more than
// the directory it comes from. So a directory that has counted less than the cluster knows is
// an older copy, which misses what was flushed since, or a backup. Where other members of a group live
// that is mended when the disk joins again. But if all were started anew it would be taken for
// one of the last members, and what it has for what was flushed last.
//
// What is not noticed is a copy that misses less than ageEvery.

// agePrefix begins the keys of what the directories of nodes have counted, which go on with
// their IDs.
const agePrefix = "age/"

// ageEvery is how often a node that is written notes that it goes on.
const ageEvery = 10 * time.Second

// countStart notes that the node was started once more than the cluster, or the directory,
// knows: first in the directory, which then is never older than what the cluster knows.
func (n *Node) countStart(known int64) error {
	return n.home.Edit(func(r *home.Record) {
		r.Starts = max(r.Starts, known) + 1
		n.is.Starts = r.Starts
	})
}

// growOld is the goroutine that notes that the node goes on.
func (n *Node) growOld() {
	for n.pause(n.ctx, ageEvery) {
		if err := n.noteAge(n.ctx); err != nil && n.ctx.Err() == nil {
			n.o.Log.Debug("it could not be noted that the node goes on", "error", err)
		}
	}
}

// noteAge lets the data directory count once more, and the cluster know of it, if the disks
// of the node have flushed anything since.
func (n *Node) noteAge(ctx context.Context) error {
	n.aging.Lock()
	defer n.aging.Unlock()
	v := n.state.View()
	is, known := v.Nodes.Get(n.is.Node)
	flushes := uint64(0)
	for _, d := range n.disks {
		flushes += d.disk.Stats().Flushes
	}
	// A node that is alone has nobody who knows more than its directory.
	if flushes == n.flushes || !known || v.Nodes.Len() < 2 || n.run.isBanished() != nil {
		return nil
	}
	var age int64
	if err := n.home.Edit(func(r *home.Record) { r.Starts++; age = r.Starts }); err != nil {
		return err
	}
	done, err := n.store.Txn(ctx, coord.Txn{
		If:   []coord.Compare{coord.IfRevision(record.NodeKey(n.is.Node), is.Revision)},
		Then: []coord.Op{coord.Put(agePrefix+n.is.Node, strconv.AppendInt(nil, age, 10))},
	})
	if err == nil && done.Done {
		n.flushes = flushes
	}
	return err
}

// lastAge is noteAge at the end, which waits only if the cluster has heard of this node until
// now.
func (n *Node) lastAge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	err := n.run.current().Err()
	if err == nil {
		err = n.noteAge(ctx)
	}
	if err != nil {
		n.o.Log.Debug("an older copy of the data directory may not be told from it", "error", err)
	}
}

// knownAge is what the directory of this node has counted as far as the cluster knows.
func (n *Node) knownAge(ctx context.Context, store coord.Store) (int64, error) {
	key := record.NodeKey(n.is.Node)
	e, _, err := store.Get(ctx, key)
	if err != nil || e.Revision == 0 {
		return 0, err
	}
	// What cannot be read is said anew.
	r, _ := record.Decode[record.Node](key, e.Value)
	if e, _, err = store.Get(ctx, agePrefix+n.is.Node); err != nil {
		return 0, err
	}
	age, _ := strconv.ParseInt(string(e.Value), 10, 64)
	return max(r.Starts, age), nil
}

// newest returns an error if the node was used with a newer data directory than this one.
func (n *Node) newest(ctx context.Context, store coord.Store) error {
	known, err := n.knownAge(ctx, store)
	is, _ := n.home.Made()
	if err != nil || known <= is.Starts {
		return err
	}
	if n.o.OlderCopy {
		n.o.Log.Warn("the data directory is an older copy, and becomes that of the node, as an operator wants: what was written since is lost where no other node has it", "counted", is.Starts, "known", known)
		return n.home.Edit(func(r *home.Record) { r.Starts = known })
	}
	return fmt.Errorf("data directory %s: the one of node %s has counted %d starts and signs of life, as the cluster knows, and this one %d: it is an older copy, and misses what was written and voted for since; start the node with the newest one, or forget it and let it join with an empty one: %w",
		n.home.Dir(), n.is.Node, known, is.Starts, ErrOlder)
}
