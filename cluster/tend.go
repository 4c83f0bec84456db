package cluster

import (
	"fmt"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/steward"
)

// tend is the goroutine that takes part in the election of the steward. It does so with
// each lease that the node gets.
func (n *Node) tend() {
	for n.ctx.Err() == nil {
		lease := n.run.current()
		s := n.newSteward(lease)
		n.steward.Store(s)
		err := s.Run(n.ctx)
		if n.ctx.Err() != nil || n.isClosing() {
			return
		}
		n.o.Log.Warn("this node cannot be the steward at the moment", "error", err)
		for n.run.current() == lease {
			if !n.pause(n.ctx, leasePause) {
				return
			}
		}
	}
}

func (n *Node) newSteward(lease *coord.Lease) *steward.Steward {
	return steward.New(steward.Config{
		Store: n.store, State: n.state, Lease: lease, Node: n.is.Node, Options: n.o.Steward, Used: n.used, Full: n.full, Log: n.o.Log,
	})
}

// Status says how the placement groups of the cluster are, and what is at risk.
func (n *Node) Status() (*steward.Report, error) {
	s := n.steward.Load()
	if s == nil {
		return nil, fmt.Errorf("the node is being started")
	}
	return s.Status()
}
