package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// drawing is one character for each 64 KiB: what letters says, or ? if the extents are
// not such.
func drawing(t testing.TB, dev block.Device, mc string, letters string) string {
	t.Helper()
	var b strings.Builder
	for e, err := range dev.Extents(t.Context(), mc, 0, dev.Info().Size) {
		if err != nil {
			return err.Error()
		}
		c := "?"
		if e.Status < uint64(len(letters)) && e.Off%(64<<10) == 0 {
			c = letters[e.Status : e.Status+1]
		}
		b.WriteString(strings.Repeat(c, int(e.Len/(64<<10))))
	}
	return b.String()
}

const (
	allocated = "d??-" // of block.Allocation
	unequal   = "=x"   // of ChangedSince
)

// All nodes know what is allocated and what has changed, of the volume and of its
// snapshots, and for all pairs of snapshots that is not less than what differs.
func TestDifferences(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	near, far := shared(t, nodes, 1, 0) // 64 objects of 64 KiB
	const part = 64 << 10
	fill(t, near, 0, 4*part, 1)
	fill(t, near, 20*part, part, 1)
	must(t, nodes[0].Snapshot(t.Context(), "vm1", "sunday"))
	fill(t, far, part, part, 2)
	must(t, near.Zero(t.Context(), 2*part, part, 0))
	must(t, nodes[0].Snapshot(t.Context(), "vm1", "monday"))
	fill(t, near, 30*part, part, 3)
	must(t, near.Trim(t.Context(), 0, part, 0))

	after := strings.Repeat("-", 16) + "d" + strings.Repeat("-", 9)
	same := strings.Repeat("=", 26)
	for i, n := range nodes {
		dev := []block.Device{far, near}[i]
		dev2 := open(t, n, "vm1") // knows the snapshots that there are now
		must(t, n.seenAll(t.Context(), nil))
		monday, err := n.OpenSnapshot(t.Context(), "vm1", "monday")
		must(t, err)
		sunday, err := n.OpenSnapshot(t.Context(), "vm1", "sunday")
		must(t, err)
		if !dev.Info().CheapExtents || !monday.Info().CheapExtents {
			t.Error("extents are not cheap")
		}
		want := []string{"strata:changed-since:monday", "strata:changed-since:sunday"}
		if got := dev2.Info().Contexts; !slices.Equal(got, want) || !slices.Equal(got, monday.Info().Contexts) {
			t.Errorf("the contexts are %v", got)
		}
		for _, x := range []struct {
			dev         block.Device
			mc, letters string
			says        string
		}{
			{dev, block.Allocation, allocated, "-d-d" + after + "d" + strings.Repeat("-", 33)},
			{monday, block.Allocation, allocated, "dd-d" + after + strings.Repeat("-", 34)},
			{sunday, block.Allocation, allocated, "dddd" + after + strings.Repeat("-", 34)},
			{dev, ChangedSince + "monday", unequal, "x===" + same + "x" + strings.Repeat("=", 33)},
			{dev, ChangedSince + "sunday", unequal, "xxx=" + same + "x" + strings.Repeat("=", 33)},
			{monday, ChangedSince + "sunday", unequal, "=xx=" + same + strings.Repeat("=", 34)},
			{sunday, ChangedSince + "monday", unequal, "=xx=" + same + strings.Repeat("=", 34)},
			{monday, ChangedSince + "monday", unequal, "====" + same + strings.Repeat("=", 34)},
			{monday, ChangedSince + "friday", unequal, `changes since the snapshot "friday": not found: invalid argument`},
		} {
			if got := drawing(t, x.dev, x.mc, x.letters); got != x.says {
				t.Errorf("node %d, %s:\n%s, expected\n%s", i, x.mc, got, x.says)
			}
		}
		must(t, errors.Join(monday.Close(), sunday.Close()))
	}
}

// A snapshot that is deleted is not compared with any more.
func TestDifferencesOfDeleted(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 4 << 20}))
	dev := open(t, n, "vm1")
	fill(t, dev, 0, 1<<20, 1)
	for i := range 3 {
		must(t, n.Snapshot(t.Context(), "vm1", fmt.Sprint("s", i)))
		fill(t, dev, int64(i)*4096, 4096, 2)
	}
	head, _ := n.View().Head("vm1")
	first, _ := n.View().Snapshot(head.Line(), "s0")
	last, err := n.OpenSnapshot(t.Context(), "vm1", "s2")
	must(t, err)
	defer last.Close()
	must(t, n.DeleteSnapshot(t.Context(), "vm1", "s0"))
	for _, err := range last.(mapper).Map(t.Context(), first.ID, 0, 4096) {
		if !errors.Is(err, block.ErrInvalid) {
			t.Errorf("compared with a deleted snapshot: %v", err)
		}
	}
	sum := int64(0)
	for e, err := range last.Extents(t.Context(), ChangedSince+"s1", 0, last.Info().Size) {
		must(t, err)
		if e.Status == Changed {
			sum += e.Len
		}
	}
	if sum != 4096 {
		t.Errorf("%d bytes have changed", sum)
	}
}

// Trimmed objects take no space, and neither do reads and maps of what is not there.
func TestSpace(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 1 << 40}))
	dev := open(t, n, "vm1")
	used := func() (sum int64) {
		for _, d := range n.disks {
			sum += d.disk.Stats().Used
		}
		return sum
	}
	before := used()
	fill(t, dev, 512<<30, 8<<20, 1)
	if got := used() - before; got < 8<<20 {
		t.Errorf("8 MiB take %d bytes", got)
	}
	check(t, dev, 512<<30, 8<<20, 1)
	p := make([]byte, 1<<20)
	must(t, dev.ReadAt(t.Context(), p, 1<<30, 0))
	if !block.IsZero(p) {
		t.Error("what was never written is not zeros")
	}
	began := time.Now()
	for _, err := range dev.Extents(t.Context(), block.Allocation, 0, 1<<40) {
		must(t, err)
	}
	t.Log("1 TiB mapped in", time.Since(began))
	must(t, dev.Trim(t.Context(), 512<<30, 4<<20, 0))
	must(t, dev.Zero(t.Context(), 512<<30+4<<20, 4<<20, 0))
	must(t, dev.Flush(t.Context()))
	if got := used(); got != before {
		t.Errorf("%d bytes are used after all was trimmed, %d before", got, before)
	}
}

// A map of a large volume asks about what there is, not about what might be.
func TestMapOfThin(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	const size, object = 64 << 40, 4 << 20
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: size, ObjectSize: object}))
	dev := open(t, n, "vm1")
	random := rand.New(rand.NewPCG(1, 1))
	data := map[int64]bool{0: true, size - 4096: true}
	for range 200 {
		near := random.Int64N(size/object/2) * object
		data[near], data[near+random.Int64N(300)*object] = true, true
	}
	for off := range data {
		fill(t, dev, off, 4096, 1)
	}
	must(t, n.Snapshot(t.Context(), "vm1", "monday"))
	head, _ := n.View().Head("vm1")
	monday, _ := n.View().Snapshot(head.Line(), "monday")
	fill(t, dev, 7*object, 4096, 2)
	also := maps.Clone(data)
	also[7*object] = true
	frozen, err := n.OpenSnapshot(t.Context(), "vm1", "monday")
	must(t, err)
	defer frozen.Close()
	for name, x := range map[string]struct {
		dev   block.Device
		since uint64
		is    func(status uint64) bool
		there map[int64]bool
	}{
		"snapshot": {frozen, 0, func(status uint64) bool { return status == 0 }, maps.Clone(data)},
		"volume":   {dev, 0, func(status uint64) bool { return status == 0 }, also},
		"changes":  {dev, monday.ID, func(status uint64) bool { return status&replica.Changed != 0 }, map[int64]bool{7 * object: true}},
	} {
		// Each object that was asked about has an extent at least.
		extents, end := 0, int64(0)
		for e, err := range x.dev.(mapper).Map(t.Context(), x.since, 0, size) {
			must(t, err)
			if e.Off != end || x.is(e.Status) && (!x.there[e.Off] || e.Len != 4096) {
				t.Fatalf("%s: an extent %+v at %d", name, e, end)
			}
			if x.is(e.Status) {
				delete(x.there, e.Off)
			}
			extents, end = extents+1, e.End()
		}
		if end != size || len(x.there) > 0 || extents > 60_000 {
			t.Errorf("%s: %d extents up to %d, without %v", name, extents, end, x.there)
		}
		t.Log(name, extents)
	}
}
