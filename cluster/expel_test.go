package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/internal/peer"
)

// A meddler is a store with which something happens before the first transaction, which has
// been made up then.
type meddler struct {
	coord.Store
	once sync.Once
	do   func()
}

func (m *meddler) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	m.once.Do(m.do)
	return m.Store.Txn(ctx, t)
}

// A node that is forgotten while it starts does not put its records back.
func TestForgottenWhileItStarts(t *testing.T) {
	t.Parallel()
	for name, starts := range map[string]func(t *testing.T, n *Node) error{
		"node and disks": func(t *testing.T, n *Node) error { return n.introduce(t.Context()) },
		"process": func(t *testing.T, n *Node) error {
			_, err := n.putRun(t.Context(), n.run.current())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := several(t, 2)
			b := nodes[1]
			must(t, stop(b))
			store, err := nodes[0].dialAgreed(nodes[0].voting.seat.Endpoint())
			must(t, err)
			defer store.Close()
			lease, err := coord.NewLease(t.Context(), store, b.o.Lease)
			must(t, err)
			is := b.is
			is.Starts += 10
			starting := &Node{o: b.o, home: b.home, is: is, identity: b.identity, state: nodes[0].state, incarnation: "another", run: run{lease: lease}}
			starting.store = &meddler{Store: store, do: func() {
				_, err := nodes[0].Carry(t.Context(), Intent{Kind: Forget, ID: b.ID()}, false)
				must(t, err)
			}}
			if err := starts(t, starting); !errors.Is(err, identity.ErrExpelled) {
				t.Errorf("it starts: %v", err)
			}
			must(t, nodes[0].seenAll(t.Context(), nil))
			if v := nodes[0].View(); v.Nodes.Len() != 1 || v.Disks.Len() != 1 || v.Runs.Len() != 1 {
				t.Errorf("%d nodes, %d disks, %d run", v.Nodes.Len(), v.Disks.Len(), v.Runs.Len())
			}
		})
	}
}

// A node that is forgotten and hears nothing of what is agreed any more asks other nodes, and
// ends.
func TestForgottenAndDeaf(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	deaf := nodes[2]
	for is, _ := deaf.home.Made(); len(is.Peers) == 0; is, _ = deaf.home.Made() {
		deaf.pause(t.Context(), leasePause)
	}
	must(t, deaf.voting.client.SetEndpoints([]string{"https://" + peer.FreeAddress(t)}))
	if _, err := nodes[0].Carry(t.Context(), Intent{Kind: Forget, ID: deaf.ID()}, true); err != nil {
		t.Fatal(err)
	}
	<-deaf.Over()
	if err := deaf.Err(); !errors.Is(err, identity.ErrExpelled) {
		t.Errorf("it ends with %v", err)
	}
	if _, err := deaf.run.living(t.Context()); !errors.Is(err, identity.ErrExpelled) {
		t.Errorf("it lives: %v", err)
	}
}
