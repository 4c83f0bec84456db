package snapshot

import (
	"context"
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
	// turn is held by the one who flushes.
	turn sync.Mutex
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
	b.turn.Lock()
	defer b.turn.Unlock()
	if b.sealed(n) {
		return nil
	}
	upTo := b.count.Load()
	if err := b.flush(ctx); err != nil {
		return err
	}
	b.done.Store(upTo)
	return nil
}
