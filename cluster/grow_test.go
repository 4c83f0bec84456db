package cluster

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
)

// A volume grows while it is written by its own node and another one: who has it open goes
// on, who opens it anew has all of it, whoever asked for it, and it cannot shrink.
func TestGrowWhileOpen(t *testing.T) {
	t.Parallel()
	nodes := several(t, 3)
	near, far := shared(t, nodes, 1, 0)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				fill(t, far, 0, 1<<20, i%7)
			}
		}
	})
	size := int64(4 << 20)
	for i, n := range []*Node{nodes[2], nodes[0], nodes[1], nodes[2]} {
		size += 4 << 20
		must(t, n.seenAll(t.Context(), nil))
		must(t, n.Grow(t.Context(), "vm1", size))
		for _, x := range nodes {
			must(t, x.seenAll(t.Context(), nil))
			dev := open(t, x, "vm1")
			if got := dev.Info().Size; got != size {
				t.Errorf("it has %d bytes at node %s, expected %d", got, x.ID(), size)
			}
			fill(t, dev, size-1<<20, 1<<20, uint64(i))
			must(t, dev.Flush(t.Context()))
			check(t, dev, size-1<<20, 1<<20, uint64(i))
		}
		must(t, nodes[0].Snapshot(t.Context(), "vm1", string(rune('a'+i))))
	}
	close(stop)
	writer.Wait()
	if err := nodes[0].Grow(t.Context(), "vm1", 4<<20); !errors.Is(err, record.ErrInvalid) {
		t.Errorf("shrunk: %v", err)
	}
	if got := near.Info().Size; got != 4<<20 {
		t.Errorf("who has it open sees %d bytes", got)
	}
	fill(t, near, 0, 1<<20, 9)
	check(t, far, 0, 1<<20, 9)
	snap, err := nodes[2].OpenSnapshot(t.Context(), "vm1", "b")
	must(t, err)
	defer snap.Close()
	check(t, snap, 11<<20, 1<<20, 1)
	if err := snap.ReadAt(t.Context(), make([]byte, 4096), 12<<20, 0); !errors.Is(err, block.ErrRange) {
		t.Errorf("a snapshot has grown: %v", err)
	}
}

// A volume may be as large as can be said, and is used up to its last byte.
func TestLargest(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	for i, objectSize := range []int64{record.MinObjectSize, record.MaxObjectSize} {
		name := fmt.Sprint("vm", i)
		must(t, n.Create(t.Context(), name, record.Spec{Size: math.MaxInt64 - 1, ObjectSize: objectSize}))
		must(t, n.Grow(t.Context(), name, math.MaxInt64))
		dev := open(t, n, name)
		fill(t, dev, math.MaxInt64-5000, 5000, 1)
		must(t, dev.Flush(t.Context()))
		check(t, dev, math.MaxInt64-5000, 5000, 1)
		must(t, n.Snapshot(t.Context(), name, "s"))
		if err := n.Grow(t.Context(), name, math.MinInt64); !errors.Is(err, record.ErrInvalid) {
			t.Errorf("a volume of a negative size: %v", err)
		}
	}
	if got := objectsIn(record.MinObjectSize+1, record.MinObjectSize); got != 2 {
		t.Errorf("%d objects, expected 2", got)
	}
}
