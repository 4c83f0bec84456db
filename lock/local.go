package lock

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
)

// A Local is a lock for parties of this process, first come first served. The
// zero value is ready to use.
type Local struct {
	mu         sync.Mutex
	generation uint64
	holder     *localHold
	last       *localParty // whose last hold was the last of all and was not lost
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
		h.lose("it was revoked")
	}
	return h != nil
}

// next gives the lock to the first who waits. The lock is free.
func (l *Local) next() {
	l.holder = nil
	if len(l.queue) > 0 {
		w := l.queue[0]
		l.queue = slices.Delete(l.queue, 0, 1)
		w.granted <- l.grant(w.party)
	}
}

func (l *Local) grant(p *localParty) *localHold {
	h := &localHold{party: p, lost: make(chan struct{}), waiting: make(chan struct{})}
	if l.last != p {
		h.other = l.generation > 0
		l.generation++
	}
	l.holder, l.last = h, p
	h.generation = l.generation
	h.notice()
	return h
}

type localParty struct {
	lock *Local
	turn turn
	shut bool // guarded by lock.mu
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
	l.holder.notice()
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
	if i := slices.Index(l.queue, w); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		if l.holder != nil {
			l.holder.notice()
		}
		return nil, err
	}
	return <-w.granted, nil // at the same moment
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
	if h := l.holder; h != nil && h.party == p {
		h.lose("it was closed")
	}
	return nil
}

// A localHold is guarded by the mutex of the Local.
type localHold struct {
	party      *localParty
	generation uint64
	other      bool
	err        error
	lost       chan struct{}
	waiting    chan struct{}
	noticed    bool // waiting is closed
}

// notice makes the channel that Waiting returns fit the queue.
func (h *localHold) notice() {
	switch contended := len(h.party.lock.queue) > 0; {
	case contended && !h.noticed:
		close(h.waiting)
		h.noticed = true
	case !contended && h.noticed:
		h.waiting = make(chan struct{})
		h.noticed = false
	}
}

// end makes the hold invalid and passes on the lock.
func (h *localHold) end(err error) {
	h.err = err
	h.party.lock.next()
}

func (h *localHold) lose(why string) {
	close(h.lost)
	h.party.lock.last = nil
	h.end(lost(why))
	h.party.turn.give()
}

func (h *localHold) Unlock() error {
	l := h.party.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.end(errUnlocked)
	h.party.turn.give()
	return nil
}

func (h *localHold) Raise(_ context.Context, above uint64) error {
	l := h.party.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case h.err != nil:
		return h.err
	case above == math.MaxUint64:
		return errNoGeneration(above)
	case h.generation <= above:
		h.generation = above + 1
		l.generation = h.generation
	}
	return nil
}

func errNoGeneration(above uint64) error {
	return fmt.Errorf("there is no generation above %d", above)
}

func (h *localHold) Generation() uint64 {
	h.party.lock.mu.Lock()
	defer h.party.lock.mu.Unlock()
	return h.generation
}

func (h *localHold) Err() error {
	h.party.lock.mu.Lock()
	defer h.party.lock.mu.Unlock()
	return h.err
}

func (h *localHold) Contended() bool {
	h.party.lock.mu.Lock()
	defer h.party.lock.mu.Unlock()
	return h.err == nil && len(h.party.lock.queue) > 0
}

func (h *localHold) Waiting() <-chan struct{} {
	h.party.lock.mu.Lock()
	defer h.party.lock.mu.Unlock()
	return h.waiting
}

func (h *localHold) HeldByOther() bool     { return h.other }
func (h *localHold) Lost() <-chan struct{} { return h.lost }
