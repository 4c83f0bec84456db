package snapshot_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// notPaused fails unless a write of a chunk, of which there has been none, is
// possible without waiting for anything.
func notPaused(t *testing.T, s *snapshot.Set, off int64, when string) {
	t.Helper()
	if err := s.Origin().WriteAt(t.Context(), make([]byte, 4096), off, block.NoWait); err != nil {
		t.Errorf("a write %s: %v", when, err)
	}
}

// Who takes a snapshot while a step of background work is under way waits for
// its end, and does not keep writes out meanwhile.
func TestCreateWaitsForStepsOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &laborious{left: 10_000, wait: make(chan struct{})}
		s := l.open(t, false, nil)
		synctest.Wait() // in the middle of a step
		created := make(chan error)
		go func() { created <- s.Create(t.Context(), "a", snapshot.CreateOptions{}) }()
		synctest.Wait()
		notPaused(t, s, 0, "while a snapshot waits for a step")
		select {
		case err := <-created:
			t.Errorf("Create during a step: %v", err)
		default:
		}
		l.wait <- struct{}{}
		if err := <-created; err != nil {
			t.Error(err)
		}
		close(l.wait)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A flushing device waits for its gate before it flushes, while it has one.
type flushing struct {
	block.Pass
	gate chan struct{}
}

func (f *flushing) Flush(ctx context.Context) error {
	if f.gate != nil {
		<-f.gate
	}
	return f.Device.Flush(ctx)
}

// A snapshot is staged while others flush: neither the flush of a write that
// must be durable nor that of the snapshot itself keeps writes out.
func TestFlushesDoNotPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flushing{Pass: block.Pass{Device: block.FromBytes(make([]byte, 8<<20))}}
		s, err := snapshot.New(block.FromBytes(make([]byte, 1<<20)), store,
			snapshot.Options{Kind: "image", Format: snapshot.Always, Manual: true, Policy: snapshot.Redirect})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		create(t, s, "a", snapshot.CreateOptions{})
		gate := make(chan struct{})
		store.gate = gate
		ended := make(chan error, 2)
		go func() { ended <- s.Origin().WriteAt(t.Context(), make([]byte, 4096), 0, block.FUA) }()
		synctest.Wait()
		go func() { ended <- s.Create(t.Context(), "b", snapshot.CreateOptions{}) }()
		synctest.Wait()
		notPaused(t, s, 8192, "while a snapshot and a durable write wait for a flush")
		select {
		case err := <-ended:
			t.Errorf("something is durable without a flush: %v", err)
		default:
		}
		close(gate)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
