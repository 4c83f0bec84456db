package block

import "sync"

// A Gate lets requests pass until it is closed, and makes closing wait for
// those inside: what a source needs to keep the promise of Device.Close. The
// zero value is open.
type Gate struct {
	mu     sync.RWMutex
	closed bool
}

// Enter admits a request, which must call Leave when it is done, or returns
// ErrClosed. A request inside must not Enter again.
func (g *Gate) Enter() error {
	g.mu.RLock()
	if g.closed {
		g.mu.RUnlock()
		return ErrClosed
	}
	return nil
}

// Leave ends what Enter began.
func (g *Gate) Leave() { g.mu.RUnlock() }

// Close shuts the gate and waits until every request inside has left. A
// second call returns ErrClosed.
func (g *Gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.closed = true
	return nil
}
