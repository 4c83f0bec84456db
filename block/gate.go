package block

import (
	"sync"
	"sync/atomic"
)

// A Gate lets requests pass until it is closed, and makes closing wait for
// those inside: what a source needs to keep the promise of Device.Close. The
// zero value is open.
type Gate struct {
	// n counts those inside, and has shut added to it when the gate is closed.
	n atomic.Int64
	// idle is there when somebody closes the gate, and closed when the last one
	// has left.
	idle atomic.Pointer[chan struct{}]
	left sync.Once
}

const shut = 1 << 62

// Enter admits a request, which must call Leave when it is done, or returns
// ErrClosed. A request inside may enter again, and so may others for whom it
// waits: Enter never blocks.
func (g *Gate) Enter() error {
	if g.n.Add(1) >= shut {
		g.Leave()
		return ErrClosed
	}
	return nil
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	// Those who are turned away may make it so more than once.
	if g.n.Add(-1) == shut {
		g.left.Do(func() { close(*g.idle.Load()) })
	}
}

// Close shuts the gate and waits until every request inside has left. A
// second call returns ErrClosed, and does not wait.
func (g *Gate) Close() error {
	idle := make(chan struct{})
	if !g.idle.CompareAndSwap(nil, &idle) {
		return ErrClosed
	}
	if g.n.Add(shut) > shut {
		<-idle
	}
	return nil
}
