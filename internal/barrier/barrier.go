// Package barrier lets all who wait for their changes to be durable share flushes.
package barrier

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// A Barrier makes one flush serve all who wait for it. Whoever changes
// something counts it with Dirty; Wait returns when all that was counted
// before is durable. It must be given what flushes by Init, and not be copied.
type Barrier struct {
	flush func(context.Context) error
	count atomic.Uint64
	done  atomic.Uint64

	mu sync.Mutex
	// ended tells of the end of a flush all who wait at the same time.
	ended    sync.Cond
	flushing bool
}

// Init says what makes changes durable.
func (b *Barrier) Init(flush func(context.Context) error) {
	b.flush, b.ended.L = flush, &b.mu
}

// Dirty counts a change that has been made.
func (b *Barrier) Dirty() uint64 { return b.count.Add(1) }

// Clean reports whether all changes are durable.
func (b *Barrier) Clean() bool { return b.Sealed(b.count.Load()) }

// Done is up to which change all are durable.
func (b *Barrier) Done() uint64 { return b.done.Load() }

// Sealed reports whether the changes up to the n-th are durable.
func (b *Barrier) Sealed(n uint64) bool { return b.Done() >= n }

// Wait makes all changes durable that have been counted. Those who come while
// a flush is under way share the next one.
func (b *Barrier) Wait(ctx context.Context) error { return b.do(ctx, b.count.Load(), false) }

// WaitFor makes the changes up to the n-th durable, and others that are about to
// be made by those who will wait for them too.
func (b *Barrier) WaitFor(ctx context.Context, n uint64) error { return b.do(ctx, n, true) }

func (b *Barrier) do(ctx context.Context, n uint64, gather bool) error {
	if b.Sealed(n) {
		return nil
	}
	b.mu.Lock()
	for b.flushing && !b.Sealed(n) {
		b.ended.Wait()
	}
	if b.Sealed(n) {
		b.mu.Unlock()
		return nil
	}
	b.flushing = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.flushing = false
		b.mu.Unlock()
		b.ended.Broadcast()
	}()
	if gather {
		b.gather()
	}
	upTo := b.count.Load()
	if err := b.flush(ctx); err != nil {
		return err
	}
	b.done.Store(upTo)
	return nil
}

// maxGather bounds how often a flush lets others go first.
const maxGather = 8

// gather lets those who are about to make a change make it, as long as there
// are any who do not have to wait for anything: they can share the flush. Where
// a flush takes long those gather behind it who are slower.
func (b *Barrier) gather() {
	for range maxGather {
		n := b.count.Load()
		if runtime.Gosched(); b.count.Load() == n {
			return
		}
	}
}
