package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/identity"
)

// ErrQuorum: enough of those who vote are there, nothing needs to be recovered.
var ErrQuorum = errors.New("the nodes that vote on what the cluster agrees on are enough, or have not been away for long")

// quorumTime is how long a node that does not run looks for the others before it decides
// without them.
const quorumTime = 10 * time.Second

// RecoverQuorum lets a cluster go on of which most voters are lost for good: what the data
// directory of a node that votes and does not run knows becomes what all agree on. It
// returns in sentences what it does; without really it does nothing else. What was agreed
// on last may be lost, so the directory should be that of the node that ran last. If
// voters that are taken for lost run again without reaching this one, there are two
// clusters; those that reach it give up what they know.
//
// It is refused with ErrQuorum if enough others answer.
func RecoverQuorum(ctx context.Context, o Options, really bool) (texts []string, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{o: o}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	defer n.cancel(nil)
	defer func() { err = errors.Join(err, n.end()) }()
	fail := func(err error) ([]string, error) { return texts, fmt.Errorf("recovering a quorum: %w", err) }
	if _, err := os.Stat(o.Dir); err != nil { // opening it would make it
		return fail(fmt.Errorf("data directory: %w", err))
	}
	if n.home, err = home.Open(o.Dir); err != nil {
		return fail(err)
	}
	n.later(n.home.Close)
	made := false
	if n.is, made = n.home.Made(); !made {
		return fail(fmt.Errorf("data directory %s: there is no node in it", n.home.Dir()))
	}
	if n.identity, err = identity.Load(identity.In(n.home.Keys())); err != nil {
		return fail(err)
	}
	if err := n.takeSeat(); err != nil {
		return fail(err)
	}
	if texts, err = n.recovery(); err != nil || !really {
		return texts, err
	}
	looking, cancel := context.WithTimeout(ctx, quorumTime)
	defer cancel()
	if _, err := n.voting.seat.Resume(looking); err == nil {
		return fail(ErrQuorum)
	} else if ctx.Err() != nil {
		return fail(err)
	}
	if err := n.voting.seat.Recover(ctx); err != nil {
		return fail(err)
	}
	return texts, nil
}

// recovery says what will be done.
func (n *Node) recovery() ([]string, error) {
	voters := strings.ReplaceAll(strings.Join(n.endpoints(), ", "), "https://", "")
	if !n.voting.seat.Used() {
		return nil, fmt.Errorf("recovering a quorum: the node %s does not vote: do it on one of those at %s", n.is.Node, voters)
	}
	return []string{
		fmt.Sprintf("What node %s of cluster %s knows becomes what all nodes agree on; it votes alone then.", n.is.Node, n.is.Cluster),
		fmt.Sprintf("The voters until now were at %s. None of them may go on with what it knows: those that reach this node delete it by themselves, and vote again later.", voters),
		"What was agreed on last, and this node has not heard of, is lost: volumes, snapshots or members of placement groups that were made or changed in the last moments. Data on disks are not touched.",
	}, nil
}

// RecoverQuorum is the function of that name for a node that runs. It is refused with
// ErrQuorum if the node knows a leader.
func (n *Node) RecoverQuorum(ctx context.Context, really bool) ([]string, error) {
	texts, err := n.recovery()
	if err != nil || !really {
		return texts, err
	}
	if n.voting.seat.Well() {
		return texts, fmt.Errorf("recovering a quorum: %w", ErrQuorum)
	}
	n.o.Log.Warn("an operator lets the cluster go on with what this node knows")
	if err := n.voting.seat.Recover(ctx); err != nil {
		return texts, fmt.Errorf("recovering a quorum: %w", err)
	}
	return texts, nil
}
