package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/upkeep"
	"github.com/strata-storage/strata/cluster/wire"
)

// opAsk is a question about upkeep. It is the payload of the request, the answer that of
// the reply.
const opAsk wire.Op = 512

// maxAnswer bounds an answer in bytes.
const maxAnswer = 1 << 20

// newKeeper makes what does the background work of the disks.
func (n *Node) newKeeper() {
	var own []*upkeep.Disk
	for _, d := range n.disks {
		own = append(own, d.kept)
	}
	n.keeper = upkeep.New(upkeep.Config{
		Store: n.store, State: n.state, Node: n.is.Node, Incarnation: n.incarnation, Disks: own, Board: n.board,
		Peer: n.peer, Ask: n.askKeeper, Options: n.o.Upkeep, Log: n.o.Log,
	})
}

// askKeeper sends a question about upkeep to another node.
func (n *Node) askKeeper(ctx context.Context, node string, question []byte) ([]byte, error) {
	c, err := n.other(node).link.Client(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.Do(ctx, wire.Call{Op: opAsk, Payload: question, Into: make([]byte, maxAnswer)})
	return r.Payload, err
}

// answerAsked answers one.
func (n *Node) answerAsked(ctx context.Context, r *wire.Request) error {
	b, err := n.keeper.Answer(ctx, r.Payload())
	if err != nil {
		return err
	}
	p, err := r.Buffer(len(b))
	copy(p, b)
	return err
}

// Jobs are what this node does in the background now.
func (n *Node) Jobs() []job.Status { return n.board.List() }

// Suspend lets background work of a kind wait on this node, and Resume go on. What is
// suspended goes on when the node is started anew.
func (n *Node) Suspend(k job.Kind) { n.board.Suspend(k) }

// Resume ends Suspend.
func (n *Node) Resume(k job.Kind) { n.board.Resume(k) }

// Scrub lets disks, all of the cluster if there are none, compare what they have now, and
// read all of it if data is set. It returns when that is agreed; record.Health of the disks,
// in the View, says how far they are.
func (n *Node) Scrub(ctx context.Context, data bool, disks ...string) error {
	return n.keeper.Order(ctx, data, disks...)
}

// Check compares all copies of what a volume and those that it shares something with have,
// and reads and mends them if that is wanted.
func (n *Node) Check(ctx context.Context, volume string, o upkeep.CheckOptions) (*upkeep.Found, error) {
	if err := n.seenAll(ctx, nil); err != nil {
		return nil, fmt.Errorf("checking the volume %.200q: %w", volume, err)
	}
	h, ok := n.state.View().Head(volume)
	if !ok {
		return nil, fmt.Errorf("checking the volume %.200q: %w", volume, record.ErrNotFound)
	}
	o.Groups = groupsOfFamily(n.state.View(), h.Line().Family)
	found, err := n.keeper.Check(ctx, h.Line().Family, o)
	if err != nil {
		err = fmt.Errorf("checking the volume %.200q: %w", volume, err)
	}
	return found, err
}

// used is how many bytes of a disk are, as far as is known.
func (n *Node) used(disk string) int64 {
	h, _ := n.state.View().Health.Get(disk)
	return h.Record.Used
}

// full reports whether a disk has no room, as far as is known.
func (n *Node) full(disk string) bool {
	h, _ := n.state.View().Health.Get(disk)
	return h.Record.Full
}

// joinAs lets a disk join a group, as a job that people can see. It is urgent if one copy is
// left.
func (n *Node) joinAs(own *ownDisk, group int, urgent bool, join func(ctx context.Context) error) error {
	ctx, j := own.kept.Joins(n.ctx, n.board, group, urgent)
	defer j.End()
	err := join(ctx)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	return err
}
