package pace

import (
	"sync"
	"time"
)

// A Share is for work that nobody waits for, and that may take only a part of the
// time of what others use as well. Rest must be set.
type Share struct {
	// Rest is how many times as long as the work took nothing is done after it.
	Rest int

	mu   sync.Mutex // held while it is done
	next time.Time
}

// Try has f called in the background, unless that is being done or it is too early.
func (s *Share) Try(f func()) {
	if !s.mu.TryLock() {
		return
	}
	if time.Now().Before(s.next) {
		s.mu.Unlock()
		return
	}
	go func() {
		defer s.mu.Unlock()
		start := time.Now()
		f()
		took := time.Since(start)
		s.next = start.Add(took + took*time.Duration(s.Rest))
	}()
}
