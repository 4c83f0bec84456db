// Package budget bounds what is used at a time: memory, as a rule.
package budget

import "sync"

// A Budget lends amounts up to a total. Who asks for more than is there waits,
// first come, first served. The zero value has nothing to lend before a Give.
type Budget struct {
	mu    sync.Mutex
	free  int64
	queue []*loan
}

type loan struct {
	n     int64
	ready chan struct{}
}

// TryTake takes n if that is possible at once.
func (b *Budget) TryTake(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || b.free < n {
		return false
	}
	b.free -= n
	return true
}

// Take takes n, which must not exceed the total, and waits for it unless
// cancel is closed first. It reports whether it has n.
func (b *Budget) Take(n int64, cancel <-chan struct{}) bool {
	b.mu.Lock()
	if len(b.queue) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return true
	}
	l := &loan{n: n, ready: make(chan struct{})}
	b.queue = append(b.queue, l)
	b.mu.Unlock()
	select {
	case <-l.ready:
		return true
	case <-cancel:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, q := range b.queue {
		if q == l {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			b.grant()
			return false
		}
	}
	b.free += n // granted in the meantime
	b.grant()
	return false
}

// Give returns n.
func (b *Budget) Give(n int64) {
	b.mu.Lock()
	b.free += n
	b.grant()
	b.mu.Unlock()
}

// Free is what can be lent now.
func (b *Budget) Free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free
}

// grant serves those who wait, in order. The caller holds mu.
func (b *Budget) grant() {
	for len(b.queue) > 0 && b.queue[0].n <= b.free {
		b.free -= b.queue[0].n
		close(b.queue[0].ready)
		b.queue = b.queue[1:]
	}
}
