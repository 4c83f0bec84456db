package snapshot

import (
	"context"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A gate admits requests. It can be held, which waits for those inside and
// keeps others out, for moments, and shut, for longer.
type gate struct {
	mu sync.RWMutex
	// shut is closed when the gate opens again, nil if it is open.
	shut   chan struct{}
	closed bool
}

// enter admits a request, which must call leave. With NoWait it returns
// block.ErrWouldBlock rather than wait.
func (g *gate) enter(ctx context.Context, flags block.Flags) error {
	for {
		shut, err := g.try(flags)
		switch {
		case err != nil || shut == nil:
			return err
		case flags&block.NoWait != 0:
			return block.ErrWouldBlock
		}
		if err := await(ctx, shut); err != nil {
			return err
		}
	}
}

// await waits for something to come or to be closed.
func await[T any](ctx context.Context, c <-chan T) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try admits a request, or returns what is closed when the gate opens.
func (g *gate) try(flags block.Flags) (shut <-chan struct{}, err error) {
	if flags&block.NoWait == 0 {
		g.mu.RLock()
	} else if !g.mu.TryRLock() {
		return nil, block.ErrWouldBlock
	}
	switch {
	case g.closed:
		err = block.ErrClosed
	case g.shut == nil:
		return nil, nil
	}
	shut = g.shut
	g.mu.RUnlock()
	return shut, err
}

func (g *gate) leave() { g.mu.RUnlock() }

// hold keeps everybody out until release. All who were inside have left.
func (g *gate) hold()    { g.mu.Lock() }
func (g *gate) release() { g.mu.Unlock() }

// stop shuts the gate, which must be held.
func (g *gate) stop() {
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

// open lets requests in again. The gate must be held.
func (g *gate) open() {
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}
