package lock

import (
	"context"
	"sync"
)

// None returns a lock that no other party knows: for what only one process
// ever uses. Holds have generation 0 and are never contended.
func None() Lock { return &none{turn: newTurn()} }

type none struct {
	turn turn
	mu   sync.Mutex
	hold *noneHold // nil while there is none
	shut bool
}

func (n *none) Lock(ctx context.Context) (Hold, error) {
	if err := n.turn.take(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shut {
		return nil, ErrClosed
	}
	n.hold = &noneHold{newHold(&n.mu, 0, 0), n}
	return n.hold, nil
}

func (n *none) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shut {
		return ErrClosed
	}
	n.shut = true
	close(n.turn.closed)
	if n.hold != nil {
		n.hold.lose("it was closed")
		n.hold = nil
	}
	return nil
}

type noneHold struct {
	hold
	none *none
}

func (h *noneHold) Raise(context.Context, uint64) error { return h.Err() }

func (h *noneHold) Unlock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.err, h.none.hold = errUnlocked, nil
	h.none.turn.give()
	return nil
}
