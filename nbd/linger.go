package nbd

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// lingerTime is how long a receiver lingers.
	lingerTime = 50 * time.Microsecond
	// lockstep is after how many requests that came one by one it does.
	lockstep = 8
	// maxSkips bounds how often it does not after it has been in vain.
	maxSkips = 64
)

// A lingering decides whether a receiver that finds nothing looks again for
// some microseconds before it sleeps. It does so for a client that has one
// request in flight at a time: to wake a sleeping processor costs both sides
// more than a short request does, above all in a virtual machine, so that a
// client which goes on at once should find the server awake. With more requests
// in flight there is work for both meanwhile, and lingering would only take
// time from others.
//
// One connection of a server may linger, the one that was the last to have
// work, and only where there is another processor for its client. One whose
// client has other things to do soon lingers rarely.
type lingering struct {
	last  *atomic.Pointer[lingering] // of the server: who ran out of work last
	until time.Time                  // when it ends; zero if it has not begun

	answered uint64 // requests when it last ran out of work
	alone    int    // how many of them in a row came alone
	skip     int    // how many times not to begin
	skips    int    // what skip becomes when it is in vain again
}

// again reports whether to look again. It is called whenever nothing was
// found; answered is the number of requests that have been answered.
func (l *lingering) again(answered uint64) bool {
	if l.until.IsZero() {
		return l.begin(answered)
	}
	if time.Now().Before(l.until) {
		return true
	}
	l.until = time.Time{}
	l.skips = min(2*l.skips+1, maxSkips)
	l.skip = l.skips
	return false
}

func (l *lingering) begin(answered uint64) bool {
	n := answered - l.answered
	l.answered = answered
	other := l.last.Swap(l) != l
	switch {
	case n > 1:
		l.alone = 0
		return false
	case l.alone < lockstep:
		l.alone++
		return false
	case other || runtime.GOMAXPROCS(0) < 2:
		return false
	case l.skip > 0:
		l.skip--
		return false
	}
	l.until = time.Now().Add(lingerTime)
	return true
}

// found is called when there was something.
func (l *lingering) found() {
	if !l.until.IsZero() {
		l.until, l.skips = time.Time{}, 0
	}
}
