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

// A line lets a few in at a time, the first of those who wait. So some groups are whole soon,
// rather than all of them late. The zero value is one that nobody is in.
type line struct {
	mu      sync.Mutex
	inside  int
	waiting map[stand]chan struct{} // closed when it is in
}

// enter waits until it is in, as one of so many. It must leave after that.
func (l *line) enter(ctx context.Context, at stand, width int) error {
	turn := make(chan struct{})
	l.mu.Lock()
	if l.waiting == nil {
		l.waiting = map[stand]chan struct{}{}
	}
	l.waiting[at] = turn
	l.admit(width)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, waits := l.waiting[at]; waits {
		delete(l.waiting, at)
	} else { // its turn has just come
		l.inside--
		l.admit(width)
	}
	return context.Cause(ctx)
}

// leave lets others in until there are so many.
func (l *line) leave(width int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside--
	l.admit(width)
}

func (l *line) admit(width int) {
	for l.inside < width && len(l.waiting) > 0 {
		var first stand
		var turn chan struct{}
		for at, t := range l.waiting {
			if turn == nil || at.before(first) {
				first, turn = at, t
			}
		}
		delete(l.waiting, first)
		l.inside++
		close(turn)
	}
}
