package snapshot

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// A barrier makes one flush serve all who wait for it. Whoever changes
// something counts it with dirty; wait returns when all that was counted
// before is durable.
type barrier struct {
	flush func(context.Context) error
	count atomic.Uint64
	done  atomic.Uint64

	mu sync.Mutex
	// ended tells of the end of a flush all who wait at the same time.
	ended    sync.Cond
	flushing bool
}

func (b *barrier) init(flush func(context.Context) error) {
	b.flush, b.ended.L = flush, &b.mu
}

// dirty counts a change that has been made.
func (b *barrier) dirty() uint64 { return b.count.Add(1) }

// clean reports whether all changes are durable.
func (b *barrier) clean() bool { return b.sealed(b.count.Load()) }

// sealed reports whether the changes up to the n-th are durable.
func (b *barrier) sealed(n uint64) bool { return b.done.Load() >= n }

// wait makes all changes durable that have been counted. Those who come while
// a flush is under way share the next one.
func (b *barrier) wait(ctx context.Context) error { return b.waitFor(ctx, b.count.Load()) }

func (b *barrier) waitFor(ctx context.Context, n uint64) error {
	if b.sealed(n) {
		return nil
	}
	b.mu.Lock()
	for b.flushing && !b.sealed(n) {
		b.ended.Wait()
	}
	if b.sealed(n) {
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
	b.gather()
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
func (b *barrier) gather() {
	for range maxGather {
		n := b.count.Load()
		if runtime.Gosched(); b.count.Load() == n {
			return
		}
	}
}
