package replica

import (
	"context"
	"sync"
)

// An order is a number in two parts.
type order struct{ hi, lo uint64 }

func (a order) less(b order) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// turns admits requests by number: those of the greatest one that was announced,
// when all that were admitted with smaller ones have left. The zero value is at
// number 0.
type turns struct {
	mu     sync.Mutex
	number order
	// in are inside with this number, before with smaller ones. idle is closed
	// when the latter are gone.
	in, before int
	idle       chan struct{}
}

// announce makes n the number, unless it is greater already. mu is held.
func (t *turns) announce(n order) {
	if !t.number.less(n) {
		return
	}
	t.number = n
	if t.before += t.in; t.in > 0 && t.idle == nil {
		t.idle = make(chan struct{})
	}
	t.in = 0
}

// enter waits until those before have left, and reports whether n is the number:
// then one more is inside.
func (t *turns) enter(ctx context.Context, n order) (inside bool, err error) {
	for {
		t.mu.Lock()
		if t.number != n {
			t.mu.Unlock()
			return false, nil
		}
		if t.before == 0 {
			t.in++
			t.mu.Unlock()
			return true, nil
		}
		// Who waits is not counted: nobody has to wait for him.
		idle := t.idle
		t.mu.Unlock()
		if err := wait(ctx, idle); err != nil {
			return false, err
		}
	}
}

// leave ends what enter began with that number.
func (t *turns) leave(n order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n == t.number {
		t.in--
		return
	}
	if t.before--; t.before == 0 {
		close(t.idle)
		t.idle = nil
	}
}

// wait waits for a channel.
func wait(ctx context.Context, c <-chan struct{}) error {
	if c == nil {
		return nil
	}
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
