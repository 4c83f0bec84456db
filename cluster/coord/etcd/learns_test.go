package etcd

import (
	"errors"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
)

// A member that has no vote yet, as its node was stopped before it got it, is known for one when
// it is started again: it answers no questions, and others have to be asked.
func TestLearns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := newNode(t, "a"), newNode(t, "b")
	ok(t, a.seat.Found(ctx))
	defer a.seat.Close()
	client := dial(t, Options{Endpoints: []string{a.seat.Endpoint()}, Timeout: time.Second})
	all := members{client}
	ok(t, all.AddLearner(ctx, b.PeerURL))
	list, err := all.Members(ctx)
	ok(t, err)
	ok(t, b.seat.Follow(ctx, voters.Record{Members: list}))
	b.seat.Close()
	b.open(t, b.seat.o.Dir)
	was, err := b.seat.Resume(ctx)
	if !was || err != nil || !b.seat.Learns() || a.seat.Learns() {
		t.Fatalf("after a restart: %v, %v, learns %v, the voter %v", was, err, b.seat.Learns(), a.seat.Learns())
	}
	defer b.seat.Close()
	if _, _, err := dial(t, Options{Endpoints: []string{b.seat.Endpoint()}, Timeout: time.Second}).Get(ctx, "k"); !errors.Is(err, coord.ErrUnavailable) {
		t.Errorf("a member that learns answers with %v", err)
	}
}
