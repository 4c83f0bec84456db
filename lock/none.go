package lock

import (
	"context"
	"sync"
)

// None returns a lock that no other party knows: for what only one process
// ever uses. Holds have generation 0 and are never contended or lost.
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
	n.hold = &noneHold{none: n, lost: make(chan struct{})}
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
	if h := n.hold; h != nil {
		h.err, n.hold = lost("it was closed"), nil
		close(h.lost)
	}
	return nil
}

type noneHold struct {
	none *none
	lost chan struct{}
	err  error // guarded by none.mu
}

func (h *noneHold) Generation() uint64       { return 0 }
func (h *noneHold) HeldByOther() bool        { return false }
func (h *noneHold) Lost() <-chan struct{}    { return h.lost }
func (h *noneHold) Contended() bool          { return false }
func (h *noneHold) Waiting() <-chan struct{} { return nil }

func (h *noneHold) Raise(context.Context, uint64) error { return h.Err() }

func (h *noneHold) Err() error {
	h.none.mu.Lock()
	defer h.none.mu.Unlock()
	return h.err
}

func (h *noneHold) Unlock() error {
	h.none.mu.Lock()
	defer h.none.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.err, h.none.hold = errUnlocked, nil
	h.none.turn.give()
	return nil
}
