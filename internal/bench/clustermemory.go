package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/cluster/record"
)

// How many there are of what memory is measured of.
const (
	memoryVolumes   = 2000
	memorySnapshots = 10_000
	memoryGroups    = 4096
)

// measureMemory measures what records cost: the memory of a node within this process,
// its member of etcd included, and the time of the transaction that makes one.
func (c *clusterReport) measureMemory(ctx context.Context, dir string) (err error) {
	n, err := cluster.Start(ctx, cluster.Options{Dir: filepath.Join(dir, "memory"), DiskSize: 1 << 30, Groups: memoryGroups})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, n.Close(context.WithoutCancel(ctx)), os.RemoveAll(filepath.Join(dir, "memory")))
	}()
	for _, m := range []struct {
		what  string
		count int
		f     func() error
	}{
		{"volume", memoryVolumes, func() error {
			return times(memoryVolumes, func(i int) error {
				return n.Create(ctx, fmt.Sprintf("v%d", i), record.Spec{Size: 1 << 30, Copies: 1})
			})
		}},
		{"snapshot", memorySnapshots, func() error {
			return times(memorySnapshots, func(i int) error { return n.Snapshot(ctx, "v0", fmt.Sprintf("s%d", i)) })
		}},
		{"group", memoryGroups, func() error {
			// One that has objects in all of them.
			err := n.Create(ctx, "wide", record.Spec{Size: 16 * memoryGroups << 16, ObjectSize: 1 << 16, Copies: 1})
			if err != nil {
				return err
			}
			dev, err := n.Open(ctx, "wide")
			if err != nil {
				return err
			}
			return dev.Close()
		}},
	} {
		before, begin := heap(), time.Now()
		if err := m.f(); err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		c.note(onTmpfs, "make a "+m.what, time.Since(begin)/time.Duration(m.count))
		c.rate("memory of a "+m.what, float64(max(heap()-before, 0))/float64(m.count))
	}
	fmt.Printf("memory: %.0f B for a volume, %.0f B for a snapshot, %.0f B for a group\n",
		c.rateOf("memory of a volume"), c.rateOf("memory of a snapshot"), c.rateOf("memory of a group"))
	return nil
}

func times(n int, f func(i int) error) (err error) {
	for i := 0; i < n && err == nil; i++ {
		err = f(i)
	}
	return err
}
