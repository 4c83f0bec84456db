package upkeep

import (
	"context"
	"sync"
)

// A stand is where somebody stands in a line: those for whom it is urgent are before all
// others, and then who has come first.
type stand struct {
	urgent bool
	number int64
}

func (a stand) before(b stand) bool {
	if a.urgent != b.urgent {
		return a.urgent
	}
	return a.number < b.number
}

// A line lets one in after the other, the first of those who wait. So where all together
// get a part of the time only, some groups are whole soon, rather than all of them late.
// The zero value is one that nobody is in.
type line struct {
	mu      sync.Mutex
	inside  bool
	waiting map[stand]chan struct{} // closed when it is in
}

// enter waits until it is the turn of a place, which must leave after that.
func (l *line) enter(ctx context.Context, at stand) error {
	l.mu.Lock()
	if !l.inside {
		l.inside = true
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if l.waiting == nil {
		l.waiting = map[stand]chan struct{}{}
	}
	l.waiting[at] = turn
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	_, waits := l.waiting[at]
	delete(l.waiting, at)
	l.mu.Unlock()
	if !waits {
		l.leave() // its turn has just come
	}
	return context.Cause(ctx)
}

// leave lets the next one in.
func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside = len(l.waiting) > 0
	if !l.inside {
		return
	}
	var first stand
	var turn chan struct{}
	for at, t := range l.waiting {
		if turn == nil || at.before(first) {
			first, turn = at, t
		}
	}
	delete(l.waiting, first)
	close(turn)
}
