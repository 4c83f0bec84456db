package cluster

import (
	"context"
	"time"

	"github.com/strata-storage/strata/cluster/job"
)

// tidyOpen is the goroutine that takes the marks of objects back, now and then, that are the
// same on all disks again: what is marked is left out by scrubs, and is compared before
// another node serves the volume.
func (n *Node) tidyOpen() {
	for n.o.Tidy > 0 && n.pause(n.ctx, n.o.Tidy) {
		n.mu.Lock()
		var list []*hold
		for _, h := range n.holds {
			list = append(list, h)
		}
		n.mu.Unlock()
		for _, h := range list {
			if err := h.tidy(n.ctx); err != nil && n.ctx.Err() == nil {
				n.o.Log.Debug("what is marked will be compared later", "family", h.line.Family, "line", h.line.Line, "error", err)
			}
		}
	}
}

// tidy does so for a volume that this node has attached.
func (h *hold) tidy(ctx context.Context) error {
	a := h.active.Load()
	if a == nil || a.own == nil || a.Err() != nil {
		return nil
	}
	j := h.n.board.Begin(job.What{Kind: job.Tidy, Family: h.line.Family}, nil)
	defer j.End()
	return j.Step(ctx, func() error {
		if err := a.own.Flush(ctx); err != nil {
			return err
		}
		marked, err := a.own.Tidy(ctx)
		j.Add(int64(marked), 0)
		return err
	})
}

// tidyEvery is how often marks are taken back: the next write of an object waits for a new
// one.
const tidyEvery = 5 * time.Minute
