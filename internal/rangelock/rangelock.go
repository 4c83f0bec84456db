// Package rangelock locks ranges of bytes.
package rangelock

import (
	"context"
	"sync"
)

// A Lock keeps requests for overlapping ranges apart. Ranges that do not
// overlap never wait for each other, nor do two that are both shared.
//
// It is fair: a request waits for those before it that overlap, held or
// waiting, and for no other, so that none can be overtaken for ever.
//
// Taking and releasing a range that nobody else wants allocates nothing in
// the long run. The cost grows with the number of ranges held and waited for
// at the time, some nanoseconds for each, which suits hundreds.
//
// The zero value is unlocked. A Lock must not be copied.
type Lock struct {
	mu sync.Mutex
	// The ranges held and waited for form a list in the order of arrival.
	first, last *Range
	waiting     int
	free        *Range
}

// A Range is a part of a Lock that is held. It belongs to its holder until
// Unlock.
type Range struct {
	lock       *Lock
	prev, next *Range
	off, end   int64
	shared     bool
	// before counts the conflicting ranges earlier in the list. The range is
	// held when it is 0.
	before int
	// ready is made by the first wait and has room for one signal.
	ready chan struct{}
}

// Lock waits until no other holder has any of the n bytes at off and returns
// them as a range that must be unlocked. It returns context.Cause(ctx) if ctx
// ends first. off and n must not be negative, nor their sum overflow; a range
// of no bytes is free at all times.
func (l *Lock) Lock(ctx context.Context, off, n int64) (*Range, error) {
	return l.acquire(ctx, off, n, false)
}

// RLock is like Lock, but shares the range with others that use RLock.
func (l *Lock) RLock(ctx context.Context, off, n int64) (*Range, error) {
	return l.acquire(ctx, off, n, true)
}

// TryLock is like Lock, but returns nil instead of waiting.
func (l *Lock) TryLock(off, n int64) *Range { return l.try(off, n, false) }

// TryRLock is like RLock, but returns nil instead of waiting.
func (l *Lock) TryRLock(off, n int64) *Range { return l.try(off, n, true) }

// Unlock gives the range back. It must be called once.
func (r *Range) Unlock() {
	l := r.lock
	if l == nil {
		panic("rangelock: Unlock of a range that is not locked")
	}
	l.mu.Lock()
	l.remove(r)
	l.mu.Unlock()
}

func (l *Lock) acquire(ctx context.Context, off, n int64, shared bool) (*Range, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	r := l.append(off, n, shared)
	r.before = l.conflicts(r)
	if r.before == 0 {
		l.mu.Unlock()
		return r, nil
	}
	if r.ready == nil {
		r.ready = make(chan struct{}, 1)
	}
	l.waiting++
	l.mu.Unlock()

	select {
	case <-r.ready:
		return r, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	if r.before == 0 {
		<-r.ready
	} else {
		l.waiting--
	}
	l.remove(r)
	l.mu.Unlock()
	return nil, context.Cause(ctx)
}

func (l *Lock) try(off, n int64, shared bool) *Range {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.append(off, n, shared)
	if l.conflicts(r) > 0 {
		l.remove(r)
		return nil
	}
	return r
}

// append puts a new range at the end of the list.
func (l *Lock) append(off, n int64, shared bool) *Range {
	r := l.free
	if r == nil {
		r = new(Range)
	} else {
		l.free = r.next
	}
	r.lock, r.off, r.end, r.shared = l, off, off+n, shared
	r.prev, r.next = l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
	return r
}

// conflicts counts the ranges before r, the last of the list, that keep it
// from being held.
func (l *Lock) conflicts(r *Range) int {
	n := 0
	for o := r.prev; o != nil; o = o.prev {
		if o.conflicts(r) {
			n++
		}
	}
	return n
}

// remove takes r out of the list and wakes those that waited for nothing else.
func (l *Lock) remove(r *Range) {
	for o := r.next; o != nil && l.waiting > 0; o = o.next {
		if o.before == 0 || !o.conflicts(r) {
			continue
		}
		if o.before--; o.before == 0 {
			l.waiting--
			o.ready <- struct{}{}
		}
	}
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.lock, r.before = nil, 0
	r.prev, r.next, l.free = nil, l.free, r
}

func (r *Range) conflicts(o *Range) bool {
	return r.off < o.end && o.off < r.end && r.off < r.end && o.off < o.end &&
		!(r.shared && o.shared)
}
