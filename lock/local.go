package lock

import (
	"context"
	"slices"
	"sync"
)

// A Local is a lock for parties of this process, first come first served. The
// zero value is ready to use.
type Local struct {
	mu         sync.Mutex
	generation uint64
	owner      *localParty // who got this generation, nil if it lost it
	holder     *localHold
	queue      []*localWaiter
}

// A localWaiter gets its hold through a channel that has room for it.
type localWaiter struct {
	party   *localParty
	granted chan *localHold
}

// Join returns the lock for one more party.
func (l *Local) Join() Lock { return &localParty{lock: l, turn: newTurn()} }

// Revoke takes the lock away from whoever has it, as if its lease had expired,
// and says whether somebody had.
func (l *Local) Revoke() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.holder
	if h != nil {
		l.revoke(h, "it was revoked")
	}
	return h != nil
}

func (l *Local) revoke(h *localHold, why string) {
	h.lose(why)
	h.party.last, l.owner = 0, nil
	h.party.turn.give()
	l.next()
}

// next gives the lock to the first who waits.
func (l *Local) next() {
	l.holder = nil
	if len(l.queue) > 0 {
		w := l.queue[0]
		l.queue = slices.Delete(l.queue, 0, 1)
		w.granted <- l.grant(w.party)
	}
}

func (l *Local) grant(p *localParty) *localHold {
	if l.owner != p {
		l.generation++
		l.owner = p
	}
	l.holder = &localHold{newHold(&l.mu, l.generation, p.last), p}
	l.notice()
	return l.holder
}

// notice tells the holder whether somebody waits.
func (l *Local) notice() {
	if l.holder != nil {
		l.holder.notice(len(l.queue) > 0)
	}
}

// A localParty is guarded by the mutex of the Local.
type localParty struct {
	lock *Local
	turn turn
	last uint64 // generation of the last hold, 0 if it was lost
	shut bool
}

func (p *localParty) Lock(ctx context.Context) (Hold, error) {
	if err := p.turn.take(ctx); err != nil {
		return nil, err
	}
	h, err := p.wait(ctx)
	if err != nil {
		p.turn.give()
		return nil, err
	}
	return h, nil
}

func (p *localParty) wait(ctx context.Context) (*localHold, error) {
	l := p.lock
	l.mu.Lock()
	if p.shut {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	if l.holder == nil {
		defer l.mu.Unlock()
		return l.grant(p), nil
	}
	w := &localWaiter{p, make(chan *localHold, 1)}
	l.queue = append(l.queue, w)
	l.notice()
	l.mu.Unlock()

	var err error
	select {
	case h := <-w.granted:
		return h, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-p.turn.closed:
		err = ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case h := <-w.granted: // at the same moment
		return h, nil
	default:
	}
	l.forget(func(other *localWaiter) bool { return other == w })
	return nil, err
}

// forget removes waiters from the queue.
func (l *Local) forget(which func(*localWaiter) bool) {
	l.queue = slices.DeleteFunc(l.queue, which)
	l.notice()
}

func (p *localParty) Close() error {
	l := p.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.shut {
		return ErrClosed
	}
	p.shut = true
	close(p.turn.closed)
	l.forget(func(w *localWaiter) bool { return w.party == p })
	if h := l.holder; h != nil && h.party == p {
		l.revoke(h, "it was closed")
	}
	return nil
}

type localHold struct {
	hold
	party *localParty
}

func (h *localHold) Unlock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.err, h.party.last = errUnlocked, h.generation
	h.party.turn.give()
	h.party.lock.next()
	return nil
}

func (h *localHold) Raise(_ context.Context, above uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	generation, err := h.above(above)
	if generation > 0 {
		h.generation, h.party.lock.generation = generation, generation
	}
	return err
}
