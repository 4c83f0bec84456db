package cluster

import (
	"context"
	"sync"
)

// A latch is a mutex for which nobody has to wait longer than they want. The zero value is open.
type latch struct {
	once sync.Once
	held chan struct{}
}

func (l *latch) place() chan struct{} {
	l.once.Do(func() { l.held = make(chan struct{}, 1) })
	return l.held
}

// Lock waits for the latch.
func (l *latch) Lock() { l.place() <- struct{}{} }

// LockFor waits for the latch as long as ctx allows.
func (l *latch) LockFor(ctx context.Context) error {
	if l.TryLock() {
		return nil
	}
	select {
	case l.place() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TryLock reports whether it has got the latch, at once.
func (l *latch) TryLock() bool {
	select {
	case l.place() <- struct{}{}:
		return true
	default:
		return false
	}
}

// Unlock lets the next one have it.
func (l *latch) Unlock() { <-l.place() }
