package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/wire"
)

// opWork is a question about background work, or an order. It is the payload of the
// request, the answer that of the reply, in JSON.
const opWork wire.Op = 513

// maxJobs bounds the jobs that a node tells others of: some thousand bytes are enough for
// each.
const maxJobs = 256

// A workOrder asks a node for its jobs, after it has let those of a kind wait or go on.
type workOrder struct {
	Suspend job.Kind `json:"suspend,omitempty"`
	Resume  job.Kind `json:"resume,omitempty"`
}

// Work is what a node does in the background.
type Work struct {
	Node string `json:"node"`
	// Jobs are some of them if there are very many, and More how many others there are.
	Jobs []job.Status `json:"jobs"`
	More int          `json:"more,omitempty"`
	// Suspended are the kinds of jobs that wait as an operator has them do so.
	Suspended []job.Kind `json:"suspended,omitempty"`
}

// AllWork is what all nodes that run do in the background now. The error is about those
// that did not answer, the others are there.
func (n *Node) AllWork(ctx context.Context) ([]Work, error) { return n.orderAll(ctx, workOrder{}) }

// SuspendAll lets jobs of a kind wait on all nodes that run, or go on. A node that is
// started anew does not know of it.
func (n *Node) SuspendAll(ctx context.Context, k job.Kind, wait bool) error {
	if !slices.Contains(job.Kinds(), k) {
		return fmt.Errorf("%.80q is no kind of background work, expected one of %v: %w", k, job.Kinds(), block.ErrInvalid)
	}
	o := workOrder{Resume: k}
	if wait {
		o = workOrder{Suspend: k}
	}
	_, err := n.orderAll(ctx, o)
	return err
}

// orderAll sends an order to all nodes that run.
func (n *Node) orderAll(ctx context.Context, o workOrder) ([]Work, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var works []Work
	var errs []error
	for id := range n.state.View().Runs.All() {
		all.Go(func() {
			w, err := n.order(ctx, id, o)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("node %s: %w", id, err))
				return
			}
			works = append(works, w)
		})
	}
	all.Wait()
	slices.SortFunc(works, func(a, b Work) int { return strings.Compare(a.Node, b.Node) })
	return works, errors.Join(errs...)
}

// order sends an order to a node.
func (n *Node) order(ctx context.Context, node string, o workOrder) (w Work, err error) {
	if node == n.is.Node {
		return n.obey(o), nil
	}
	payload, err := json.Marshal(o)
	if err != nil {
		return w, err
	}
	c, err := n.other(node).link.Client(ctx)
	if err != nil {
		return w, err
	}
	r, err := c.Do(ctx, wire.Call{Op: opWork, Payload: payload, Into: make([]byte, maxAnswer)})
	if err != nil {
		return w, err
	}
	if err := json.Unmarshal(r.Payload, &w); err != nil {
		return w, fmt.Errorf("its answer: %w", err)
	}
	return w, nil
}

// obey carries out an order at this node.
func (n *Node) obey(o workOrder) Work {
	if o.Suspend != "" {
		n.Suspend(o.Suspend)
	}
	if o.Resume != "" {
		n.Resume(o.Resume)
	}
	w := Work{Node: n.is.Node, Jobs: n.Jobs()}
	if more := len(w.Jobs) - maxJobs; more > 0 {
		w.Jobs, w.More = w.Jobs[:maxJobs], more
	}
	for _, k := range job.Kinds() {
		if n.board.Suspended(k) {
			w.Suspended = append(w.Suspended, k)
		}
	}
	return w
}

// answerOrder obeys another node.
func (n *Node) answerOrder(_ context.Context, r *wire.Request) error {
	var o workOrder
	if err := json.Unmarshal(r.Payload(), &o); err != nil {
		return fmt.Errorf("an order of %d bytes that is none: %w: %w", len(r.Payload()), err, block.ErrInvalid)
	}
	for _, k := range []job.Kind{o.Suspend, o.Resume} {
		if k != "" && !slices.Contains(job.Kinds(), k) {
			return fmt.Errorf("%.80q is no kind of background work: %w", k, block.ErrInvalid)
		}
	}
	b, err := json.Marshal(n.obey(o))
	if err != nil {
		return err
	}
	p, err := r.Buffer(len(b))
	copy(p, b)
	return err
}
