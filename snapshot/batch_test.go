package snapshot_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// Background work that holds some chunks does not wait for others: whoever has
// these may wait for those.
func TestBatchesDoNotWait(t *testing.T) {
	t.Parallel()
	for _, task := range []snapshot.Task{snapshot.Homing, snapshot.Merging} {
		t.Run(task.String(), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { batchMeetsWrite(t, task) }) })
	}
}

func batchMeetsWrite(t *testing.T, task snapshot.Task) {
	const chunk = snapshot.DefaultChunk
	origin := &gated{Pass: block.Pass{Device: blocktest.NewDevice(block.Info{Size: 1 << 20})}}
	store := &gated{Pass: block.Pass{Device: blocktest.NewDevice(block.Info{Size: 8 << 20})}}
	s, err := snapshot.New(origin, store,
		snapshot.Options{Kind: "image", Format: snapshot.Always, Manual: true, Policy: snapshot.Staged})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", snapshot.CreateOptions{})
	write(t, s.Origin(), 0, chunk, 1)
	write(t, s.Origin(), 2*chunk, chunk, 1)
	if err := s.Origin().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := store
	if task == snapshot.Merging {
		workAll(t, s)
		g = origin
		if err := s.Rollback(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	// A write to the second one stays in a device, and holds the chunk.
	gate := make(chan struct{})
	g.gate = gate
	written := make(chan error)
	go func() { written <- s.Origin().WriteAt(t.Context(), make([]byte, 512), 2*chunk, 0) }()
	synctest.Wait()
	g.gate = nil
	if _, err := s.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	workAll(t, s)
	if err := errors.Join(s.Check(t.Context(), func(p error) { t.Error(p) }), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// workAll does the background work that is pending.
func workAll(t *testing.T, s *snapshot.Set) {
	t.Helper()
	for more := true; more; {
		p, err := s.Work(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		more = p.More
	}
}

// A gated device keeps a write waiting.
type gated struct {
	block.Pass
	gate chan struct{}
}

func (g *gated) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if g.gate != nil {
		<-g.gate
	}
	return g.Device.WriteAt(ctx, p, off, flags)
}
