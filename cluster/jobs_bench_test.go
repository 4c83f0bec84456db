package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
)

// BenchmarkJobs is how long requests of clients take while disks work in the background,
// and how much of that gets done: in bytes per second of a disk, or objects.
func BenchmarkJobs(b *testing.B) {
	nodes := severalWith(b, 3, func(_ int, o *Options) { o.DiskSize = 2 << 30 })
	n := nodes[0]
	must(b, n.Create(b.Context(), "vm1", record.Spec{Size: 1 << 30, ObjectSize: 1 << 20}))
	must(b, n.Create(b.Context(), "vm2", record.Spec{Size: 1 << 30, ObjectSize: 1 << 20}))
	dev, other := open(b, n, "vm1"), open(b, n, "vm2")
	fill(b, dev, 0, 128<<20, 1)
	fill(b, other, 0, 128<<20, 2)
	must(b, other.Flush(b.Context()))
	for _, x := range []struct {
		name string
		work func(ctx context.Context, i int) error
	}{
		{"none", func(ctx context.Context, _ int) error { <-ctx.Done(); return nil }},
		{"data", func(ctx context.Context, _ int) error {
			_ = n.Scrub(ctx, true)
			return ended(ctx, n)
		}},
		{"delete", func(ctx context.Context, i int) error {
			for _, x := range nodes {
				x.Resume(job.Delete)
			}
			<-ctx.Done()
			return nil
		}},
		{"join", func(ctx context.Context, _ int) error { return again(ctx, n, nodes[2]) }},
	} {
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprint(x.name, "/", depth), func(b *testing.B) {
				if x.name == "delete" {
					doomed(b, nodes, other)
				}
				underWork(b, dev, depth, x.work)
			})
		}
	}
}

// ended waits until no disk scrubs any more.
func ended(ctx context.Context, n *Node) error {
	for v := n.View(); ; {
		going := false
		for _, h := range v.Health.All() {
			p := h.Record.Data
			going = going || p.Begun.After(p.Ended) || p.Ordered.After(p.Begun)
		}
		if !going {
			return nil
		}
		var err error
		if v, err = n.state.Next(ctx, v); err != nil {
			return err
		}
	}
}

// doomed makes a lot that is to be deleted when that is resumed.
func doomed(b *testing.B, nodes []*Node, dev block.Device) {
	b.Helper()
	settled(b, nodes[0], 0)
	for _, x := range nodes {
		x.Suspend(job.Delete)
	}
	for i := range uint64(3) {
		name := fmt.Sprint("s", time.Now().UnixNano())
		must(b, nodes[0].Snapshot(b.Context(), "vm2", name))
		fill(b, dev, 0, 128<<20, i)
		must(b, nodes[0].DeleteSnapshot(b.Context(), "vm2", name))
	}
	must(b, dev.Flush(b.Context()))
}

// again lets the disk of a node forget and join all groups again.
func again(ctx context.Context, n, of *Node) error {
	d := of.disk()
	for number, g := range n.View().Groups.All() {
		for _, m := range g.Record.Members {
			if m.Disk != d.kept.ID {
				continue
			}
			for s, err := range d.disk.List(ctx, 0, ^uint64(0)) {
				if err != nil {
					return err
				}
				if s.Family == 2 { // that nobody writes
					_ = d.disk.Remove(ctx, s.Object)
				}
			}
			if _, err := n.keeper.Renew(ctx, number, m); err != nil {
				return err
			}
		}
	}
	for v := n.View(); ; {
		joining := false
		for _, g := range v.Groups.All() {
			joining = joining || len(g.Record.Joining) > 0
		}
		if !joining {
			return nil
		}
		var err error
		if v, err = n.state.Next(ctx, v); err != nil {
			return err
		}
	}
}

// underWork measures random writes of 4 KiB while work is done.
func underWork(b *testing.B, dev block.Device, depth int, work func(ctx context.Context, i int) error) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var worker sync.WaitGroup
	rounds := 0
	worker.Go(func() {
		for ; ctx.Err() == nil; rounds++ {
			if err := work(ctx, rounds); err != nil && ctx.Err() == nil {
				b.Error(err)
				return
			}
		}
	})
	lists := make([][]time.Duration, depth)
	var clients sync.WaitGroup
	began := time.Now()
	b.ResetTimer()
	for i := range depth {
		clients.Go(func() {
			p := make([]byte, 4096)
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for range max(b.N/depth, 1) {
				at := time.Now()
				must(b, dev.WriteAt(b.Context(), p, rng.Int64N(128<<8)*4096, 0))
				lists[i] = append(lists[i], time.Since(at))
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	b.StopTimer()
	cancel()
	worker.Wait()
	all := slices.Concat(lists...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	if rounds > 0 {
		b.ReportMetric(float64(rounds)/took.Seconds(), "rounds/s")
	}
}
