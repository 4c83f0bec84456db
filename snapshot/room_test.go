package snapshot_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// held is a device whose reads wait while there is a gate.
type held struct {
	block.Pass
	gate chan struct{}
}

func (h *held) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if h.gate != nil {
		<-h.gate
	}
	return h.Device.ReadAt(ctx, p, off, flags)
}

// Space that only readers keep from being free is waited for, also if it comes
// from the last step of a deletion.
func TestRoomThatReadersHold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		copies int64 // of the snapshot that is deleted; a step frees 8 at most
	}{{"one step", 3}, {"several steps", 20}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { testRoomThatReadersHold(t, c.copies) })
		})
	}
}

func testRoomThatReadersHold(t *testing.T, copies int64) {
	ctx := t.Context()
	const chunk = 4096
	origin := &held{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4<<20))}}
	s, err := snapshot.New(origin, block.FromBytes(make([]byte, 1<<20)), snapshot.Options{
		Kind: "image", Format: snapshot.Always, Manual: true, Policy: snapshot.CopyOut})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	create(t, s, "a", snapshot.CreateOptions{})
	p := make([]byte, chunk)
	for i := range copies {
		if err := s.Origin().WriteAt(ctx, p, i*chunk, 0); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s, "b", snapshot.CreateOptions{})
	b, err := s.Open(ctx, "b", snapshot.OpenOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	off := int64(0)
	for ; err == nil; off += chunk {
		err = b.WriteAt(ctx, p, off, 0)
	}
	if off > 2<<20 {
		t.Fatal("the store is never full")
	}
	gate := make(chan struct{})
	origin.gate = gate
	read := make(chan error, 1)
	go func() { read <- b.ReadAt(ctx, make([]byte, chunk), 3<<20, 0) }()
	synctest.Wait()
	origin.gate = nil
	if err := s.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- s.Origin().WriteAt(ctx, p, 2<<20, 0) }()
	synctest.Wait()
	select {
	case err := <-written:
		t.Errorf("a write did not wait for the reader: %v", err)
	default:
	}
	close(gate)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if err := <-written; err != nil {
		t.Errorf("a write when there is room: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
