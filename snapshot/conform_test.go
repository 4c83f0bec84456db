package snapshot_test

import (
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/snapshot/snapshottest"
)

// The engine, on a store that is simple.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, share := range []string{"all", "runs"} {
		t.Run(share, func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, snapshottest.Config{
				Kind: "image", Args: map[string]string{"share": share}, Exact: share == "runs", Copies: 1,
			})
		})
	}
}

// Chunks of other sizes, one of them as large as a block of the devices.
func TestConformanceChunks(t *testing.T) {
	t.Parallel()
	for _, c := range []snapshottest.Config{
		{Chunk: 512, Origin: 140_288, Seeds: 3},
		{Chunk: 64 << 10, Origin: 1<<20 + 4096, Store: 16 << 20, Seeds: 3},
		{Chunk: 4096, Origin: 160 << 10, MinBlock: 4096, Seeds: 3},
	} {
		c.Kind, c.Copies = "image", 1
		t.Run(fmt.Sprint(c.Chunk, "/", c.MinBlock), func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, c)
		})
	}
}

// newSet makes a set on disks in memory.
func newSet(t testing.TB, o snapshot.Options, origin, store int64) *snapshot.Set {
	t.Helper()
	dev := func(n int64) block.Device { return block.FromBytes(make([]byte, n)) }
	o.Kind, o.Format, o.Manual = "image", snapshot.Always, true
	s, err := snapshot.New(dev(origin), dev(store), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What needs more copies than a plan has destinations is planned again until
// it is done (R29).
func TestResubmission(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, n := range []int{7, 8, 9, 70} {
		s := newSet(t, snapshot.Options{Policy: snapshot.CopyOut, Args: map[string]string{"share": "none"}}, 64<<10, 4<<20)
		for i := range n {
			if err := s.Create(ctx, fmt.Sprint(i), snapshot.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Origin().WriteAt(ctx, []byte("new"), 5, 0); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats().Copied; got != int64(n) {
			t.Errorf("%d copies, expected %d", got, n)
		}
		for i := range n {
			d, err := s.Open(ctx, fmt.Sprint(i), snapshot.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 4096)
			if err := d.ReadAt(ctx, p, 0, 0); err != nil || !block.IsZero(p) {
				t.Errorf("snapshot %d has changed: %v", i, err)
			}
		}
	}
}
