package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/cluster/record"
)

// One has it at a time, and who waits can give up.
func TestLatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l latch
		inside, most := 0, 0
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				l.Lock()
				defer l.Unlock()
				inside++
				most = max(most, inside)
				synctest.Wait()
				inside--
			})
		}
		all.Wait()
		if most != 1 {
			t.Errorf("%d had it at a time", most)
		}
		must(t, l.LockFor(t.Context()))
		ctx, cancel := context.WithCancelCause(t.Context())
		given := make(chan error, 1)
		go func() { given <- l.LockFor(ctx) }()
		synctest.Wait()
		why := errors.New("enough")
		cancel(why)
		if err := <-given; err != why || l.TryLock() {
			t.Errorf("who waits ends with %v", err)
		}
		l.Unlock()
		// It is got without a look at the time, too.
		if err := l.LockFor(ctx); err != nil || l.TryLock() {
			t.Errorf("an open one: %v", err)
		}
	})
}

// A request that waits while another one looks for the volume can be cancelled.
func TestWaitingRequest(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 1 << 20}))
	dev, again := open(t, n, "vm1"), open(t, n, "vm1")
	h := holdFor(t, n, "vm1")
	h.active.Load().own.Abandon(errors.New("by the test"))
	h.mu.Lock() // as one does who looks for it
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan error, 1)
	go func() { read <- dev.ReadAt(ctx, make([]byte, 4096), 0, 0) }()
	cancel()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("a request that waits ends with %v", err)
	}
	h.mu.Unlock()
	must(t, again.ReadAt(t.Context(), make([]byte, 4096), 0, 0))
}
