package snapshot

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// pins tell when the readers of a moment are done. A reader is pinned from
// before it looks up a place until it has read it.
//
// Readers are counted by epoch, of which two can have readers: the present one
// and the one before, whose readers must have left before the next begins.
type pins struct {
	epoch atomic.Uint64
	slots [2][pinSlots]pinSlot
	// retiring is set while functions wait.
	retiring atomic.Bool

	mu sync.Mutex
	// now waits for the readers of this epoch, before for those of the last.
	now, before []func()
}

const pinSlots = 16

type pinSlot struct {
	n atomic.Int64
	_ [56]byte
}

// enter pins the caller until it calls leave with the result.
func (p *pins) enter() *pinSlot {
	i := rand.Uint32() % pinSlots
	for {
		e := p.epoch.Load()
		s := &p.slots[e&1][i]
		s.n.Add(1)
		if p.epoch.Load() == e {
			return s
		}
		p.leave(s)
	}
}

func (p *pins) leave(s *pinSlot) {
	if s.n.Add(-1) == 0 && p.retiring.Load() {
		p.advance()
	}
}

// retire calls f when all that are pinned now have left.
func (p *pins) retire(f func()) {
	p.mu.Lock()
	p.now = append(p.now, f)
	p.retiring.Store(true)
	p.mu.Unlock()
	p.advance()
}

// wait returns when all that are pinned now have left, and what waited for them
// before has been called, or when ctx ends.
func (p *pins) wait(ctx context.Context) {
	left := make(chan struct{})
	p.retire(func() { close(left) })
	await(ctx, left)
}

// advance begins new epochs as long as the readers allow it, and calls what
// waited for them.
func (p *pins) advance() {
	var due []func()
	p.mu.Lock()
	for len(p.now)+len(p.before) > 0 {
		e := p.epoch.Load()
		if !p.empty((e + 1) & 1) {
			break
		}
		due = append(due, p.before...)
		p.before, p.now = p.now, nil
		p.epoch.Store(e + 1)
	}
	p.retiring.Store(len(p.now)+len(p.before) > 0)
	p.mu.Unlock()
	for _, f := range due {
		f()
	}
}

func (p *pins) empty(i uint64) bool {
	for j := range p.slots[i] {
		if p.slots[i][j].n.Load() != 0 {
			return false
		}
	}
	return true
}
