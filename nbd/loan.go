package nbd

import "context"

// borrow returns a buffer for n bytes of payload as soon as the limits allow.
// Nobody who borrows may hold another loan.
func (t *transmission) borrow(n int) (*buffer, error) {
	if t.ctx.Err() != nil {
		return nil, context.Cause(t.ctx)
	}
	charge := t.charge(n)
	if !t.memory.Take(charge, t.ctx.Done()) {
		return nil, context.Cause(t.ctx)
	}
	if !t.server.memory.Take(charge, t.ctx.Done()) {
		t.memory.Give(charge)
		return nil, context.Cause(t.ctx)
	}
	return t.lend(n, charge), nil
}

// tryBorrow is borrow for who cannot wait. It returns nil if it would have to.
func (t *transmission) tryBorrow(n int) *buffer {
	charge := t.charge(n)
	if !t.memory.TryTake(charge) {
		return nil
	}
	if !t.server.memory.TryTake(charge) {
		t.memory.Give(charge)
		return nil
	}
	return t.lend(n, charge)
}

// charge is what a buffer for n bytes costs: all of its memory, but never more
// than there is to be had.
func (t *transmission) charge(n int) int64 {
	return min(int64(bufferSize(bufferClass(n))), t.server.limits.ConnBytes)
}

func (t *transmission) lend(n int, charge int64) *buffer {
	b := newBuffer(n)
	b.lender, b.charge = t, charge
	return b
}

// giveBack returns what borrow has taken.
func (t *transmission) giveBack(n int64) {
	t.memory.Give(n)
	t.server.memory.Give(n)
}
