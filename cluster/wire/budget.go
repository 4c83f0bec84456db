package wire

import "sync"

// A budget lends amounts up to a total. Who asks for more than is there waits,
// first come, first served.
type budget struct {
	mu    sync.Mutex
	free  int64
	queue []*loan
}

type loan struct {
	n     int64
	ready chan struct{}
}

// tryTake takes n if that is possible at once.
func (b *budget) tryTake(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || b.free < n {
		return false
	}
	b.free -= n
	return true
}

// take takes n, which must not exceed the total, and waits for it unless cancel is
// closed first. It reports whether it has n.
func (b *budget) take(n int64, cancel <-chan struct{}) bool {
	if b.tryTake(n) {
		return true
	}
	b.mu.Lock()
	l := &loan{n: n, ready: make(chan struct{})}
	b.queue = append(b.queue, l)
	b.grant()
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

// give returns n.
func (b *budget) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.grant()
	b.mu.Unlock()
}

// grant serves those who wait, in order. The caller holds mu.
func (b *budget) grant() {
	for len(b.queue) > 0 && b.queue[0].n <= b.free {
		b.free -= b.queue[0].n
		close(b.queue[0].ready)
		b.queue = b.queue[1:]
	}
}
