package lock

import (
	"context"
	"fmt"
	"sync"
)

// maxGeneration bounds Raise, so that there is always another generation.
const maxGeneration = 1 << 62

// A hold is what the holds of all transports have in common. The mutex of the
// party guards it.
type hold struct {
	mu         *sync.Mutex
	generation uint64
	other      bool
	err        error         // why it is over
	lost       chan struct{} // closed by a loss
	waiting    chan struct{} // closed while somebody else waits
	contended  bool
}

// newHold returns the hold of a party whose last one had the generation last,
// 0 if there was none or it was lost.
func newHold(mu *sync.Mutex, generation, last uint64) hold {
	return hold{
		mu: mu, generation: generation, other: generation != last && generation > 1,
		lost: make(chan struct{}), waiting: make(chan struct{}),
	}
}

// notice makes the channel of Waiting fit.
func (h *hold) notice(contended bool) {
	switch {
	case contended && !h.contended:
		close(h.waiting)
	case !contended && h.contended:
		h.waiting = make(chan struct{})
	}
	h.contended = contended
}

// lose ends the hold by a loss.
func (h *hold) lose(why string) {
	h.err = lost(why)
	close(h.lost)
}

// above is the generation that Raise must set, 0 if it is high enough.
func (h *hold) above(above uint64) (uint64, error) {
	switch {
	case h.err != nil:
		return 0, h.err
	case h.generation > above:
		return 0, nil
	case above >= maxGeneration:
		return 0, fmt.Errorf("there is no generation above %d, only above less than %d", above, uint64(maxGeneration))
	}
	return above + 1, nil
}

func (h *hold) Generation() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.generation
}

func (h *hold) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *hold) Contended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err == nil && h.contended
}

func (h *hold) Waiting() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting
}

func (h *hold) HeldByOther() bool     { return h.other }
func (h *hold) Lost() <-chan struct{} { return h.lost }

// A memory is the greatest generation that a party has seen.
type memory struct{ greatest uint64 }

// forgotten is an error if a generation comes after a greater one, and remembers
// it if not.
func (m *memory) forgotten(generation uint64) error {
	if generation < m.greatest {
		return fmt.Errorf("it has forgotten what it was: generation %d after %d; what uses it must be opened anew", generation, m.greatest)
	}
	m.greatest = generation
	return nil
}

// A turn lets the goroutines of one party wait for each other, so that only
// one at a time deals with the other parties.
type turn struct {
	free   chan struct{} // has a value while nobody has the turn
	closed chan struct{}
}

func newTurn() turn {
	t := turn{make(chan struct{}, 1), make(chan struct{})}
	t.give()
	return t
}

// take waits for the turn.
func (t *turn) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-t.closed:
		return ErrClosed
	default:
	}
	select {
	case <-t.free:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.closed:
		return ErrClosed
	}
}

func (t *turn) give() { t.free <- struct{}{} }
