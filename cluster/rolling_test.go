package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
)

// gate lets NBD clients open the volumes of a node.
type gate struct{ node *Node }

func (g gate) Resolve(ctx context.Context, r *nbd.ExportRequest) (*nbd.Export, error) {
	dev, err := g.node.Open(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	return &nbd.Export{Name: r.Name, Device: dev, Release: func() { _ = dev.Close() }}, nil
}

func (gate) List(context.Context, *nbd.Peer) ([]*nbd.Export, error) { return nil, nil }

// serving is a node with an NBD server at an address.
type serving struct {
	node    *Node
	server  *nbd.Server
	address string
}

func (s *serving) begin(t testing.TB) {
	t.Helper()
	s.server = &nbd.Server{Exports: gate{s.node}}
	l, err := net.Listen("tcp", s.address)
	must(t, err)
	server := s.server
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

// restart stops the node and starts it again.
func (s *serving) restart(t testing.TB) {
	t.Helper()
	s.server.Close()
	begin := time.Now()
	must(t, stop(s.node))
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("the stop took %v", took)
	}
	s.node = start(t, s.node.o)
	s.begin(t)
}

// All nodes are started anew, one after the other, while a client writes and reads: it sees
// nothing of that but that it takes longer.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3, quickSteward)
	electorate(t, nodes[0], 3)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 4 << 20, ObjectSize: record.MinObjectSize}))
	var all []*serving
	d := nbd.Dialer{Silence: 20 * time.Second}
	for _, n := range nodes {
		s := &serving{node: n, address: peer.FreeAddress(t)}
		s.begin(t)
		all, d.Addresses = append(all, s), append(d.Addresses, s.address)
		must(t, n.seenAll(t.Context(), nil))
	}
	client, err := d.Dial(t.Context(), "nbd://"+all[0].address+"/vm1")
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for w := range 4 {
		writing.Go(func() { writeAndRead(ctx, t, client, int64(w)<<20, uint64(w)) })
	}
	for i, s := range all {
		s.restart(t)
		healthy(t, all[(i+1)%3].node, s.node.incarnation)
	}
	cancel()
	writing.Wait()
	must(t, client.Flush(t.Context()))
}

// writeAndRead writes blocks of a megabyte of its own again and again, flushes now and then,
// and reads what it has written, until ctx ends.
func writeAndRead(ctx context.Context, t *testing.T, dev block.Device, at int64, seed uint64) {
	const size, count = 8192, 64
	rng := rand.New(rand.NewPCG(seed, 1))
	version := map[int]uint64{}
	want, got := make([]byte, size), make([]byte, size)
	worst, n := time.Duration(0), 0
	for ; ctx.Err() == nil; n++ {
		begin := time.Now()
		i := rng.IntN(count)
		off := at + int64(i)*size
		if v := version[i]; v != 0 {
			blocktest.Fill(want, off, v)
			if err := dev.ReadAt(context.Background(), got, off, 0); err != nil || string(got) != string(want) {
				t.Errorf("reading at %d: %v, the same: %v", off, err, string(got) == string(want))
				return
			}
		}
		version[i] = seed<<32 | uint64(n+1)
		blocktest.Fill(want, off, version[i])
		err := dev.WriteAt(context.Background(), want, off, 0)
		if err == nil && n%16 == 0 {
			err = dev.Flush(context.Background())
		}
		if err != nil {
			t.Error(fmt.Errorf("writing at %d: %w", off, err))
			return
		}
		worst = max(worst, time.Since(begin))
	}
	t.Logf("%d rounds, the slowest took %v", n, worst)
}

// A node that has no time left to stop does not let others wait for its lease: they have
// its volumes at once.
func TestStopWithoutTime(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2, func(o *Options) { o.Lease = 5 * time.Minute })
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 1 << 20, MinCopies: 1}))
	must(t, nodes[1].seenAll(t.Context(), nil))
	fill(t, open(t, nodes[1], "vm1"), 0, 4096, 1)
	none, cancel := context.WithCancel(t.Context())
	cancel()
	_ = nodes[1].Close(none)
	awaits(t, nodes[0], "the node is gone", func(v *record.View) bool { return v.Runs.Len() == 1 })
	check(t, open(t, nodes[0], "vm1"), 0, 4096, 1)
}

// After all nodes have died the volume can be opened as soon as one of them has started,
// while its groups are being revived with those that come: nobody hears that something is
// lost who has written nothing.
func TestOpenedWhileRevived(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	must(t, nodes[0].Create(t.Context(), "vm1", record.Spec{Size: 1 << 20, ObjectSize: record.MinObjectSize}))
	dev := open(t, nodes[0], "vm1")
	fill(t, dev, 0, 1<<20, 1)
	must(t, dev.Flush(t.Context()))
	for _, n := range nodes {
		n.crash()
	}
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() {
			again, err := Start(t.Context(), n.o)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = stop(again) })
			for range 20 {
				dev, err := again.Open(t.Context(), "vm1")
				if err != nil {
					t.Error(err)
					return
				}
				p := make([]byte, 4096)
				if err := errors.Join(dev.ReadAt(t.Context(), p, 0, 0), dev.Close()); err != nil {
					t.Error(err)
				}
				_ = again.letGo(t.Context(), "vm1")
			}
		})
	}
	all.Wait()
}
