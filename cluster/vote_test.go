package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/peer"
)

// electorate waits until so many nodes vote, and returns who does.
func electorate(t testing.TB, n *Node, count int) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		e, at, err := n.store.Get(ctx, votersKey)
		if err == nil && e.Revision != 0 {
			r, err := voters.ParseRecord(e.Value)
			must(t, err)
			names = nil
			for _, m := range r.Members {
				if !m.Learner {
					names = append(names, m.Name)
				}
			}
			if len(names) == count && len(r.Members) == count {
				slices.Sort(names)
				return names
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%v vote, expected %d", names, count)
		}
		wait, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		for range n.store.Watch(wait, votersKey, at) {
			break
		}
		stop()
	}
}

// No node is special: when the first one dies, which has made the cluster, the others
// go on, and when it comes back at other addresses it takes part again.
func TestFirstNodeDies(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	electorate(t, nodes[1], 3)
	must(t, nodes[1].Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[1], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	nodes[0].crash()
	begin := time.Now()
	fill(t, dev, 512<<10, 1<<20, 2)
	must(t, dev.Flush(t.Context()))
	t.Logf("writes stopped for %v", time.Since(begin))
	must(t, nodes[2].Create(t.Context(), "vm2", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))

	o := nodes[0].o
	o.Agreed, o.Votes, o.Door = peer.FreeAddress(t), peer.FreeAddress(t), peer.FreeAddress(t)
	back := start(t, o)
	healthy(t, nodes[1], back.incarnation)
	check(t, dev, 512<<10, 1<<20, 2)
	must(t, dev.Close())
	// With it and either of the others the cluster goes on.
	nodes[2].crash()
	must(t, back.seenAll(t.Context(), nil))
	dev = open(t, back, "vm1")
	check(t, dev, 0, 512<<10, 1)
	check(t, dev, 512<<10, 1<<20, 2)
	must(t, dev.Flush(t.Context()))
}

// A voter that is dead for long is replaced by another node, and when it comes back it
// is one of those that do not vote.
func TestVoterReplaced(t *testing.T) {
	t.Parallel()
	nodes := several(t, 4, func(o *Options) { o.VoterGrace = time.Second })
	was := electorate(t, nodes[0], 3)
	dead := slices.IndexFunc(nodes, func(n *Node) bool { return n.ID() == was[0] })
	nodes[dead].crash()
	other := nodes[(dead+1)%4]
	for {
		now := electorate(t, other, 3)
		if !slices.Contains(now, nodes[dead].ID()) {
			break
		}
	}
	back := start(t, nodes[dead].o)
	must(t, back.seenAll(t.Context(), nil))
	if now := electorate(t, back, 3); slices.Contains(now, back.ID()) {
		t.Errorf("it votes again, with %v", now)
	}
}

// A node whose member was removed notices that by itself, and goes on with what others know,
// rather than to ask a member that has ended until it loses patience. When one of three that
// vote is forgotten, one vote is enough for the other two: one more is removed.
func TestMemberRemoved(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3, func(o *Options) { o.votePause = 20 * time.Second })
	electorate(t, nodes[0], 3)
	nodes[2].crash()
	_, err := nodes[0].Carry(t.Context(), Intent{Kind: Forget, ID: nodes[2].ID()}, true)
	must(t, err)
	voting := slices.IndexFunc(nodes, func(n *Node) bool { return n.ID() == electorate(t, n, 1)[0] })
	other := nodes[1-voting]
	ctx, cancel := context.WithTimeout(t.Context(), votePatience*other.o.votePause/2)
	defer cancel()
	for {
		err := other.seenAll(ctx, nil)
		if err == nil && !other.voting.seat.Used() {
			break
		}
		if !other.pause(ctx, leasePause) {
			t.Fatalf("it does not hear that it has no member: %v", err)
		}
	}
}
