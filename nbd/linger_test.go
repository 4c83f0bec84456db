package nbd

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// loop runs out of work after n more requests, and returns how often it may
// look again when every look takes a microsecond and nothing comes.
func loop(l *lingering, answered *uint64, n uint64) (looks int) {
	*answered += n
	for l.again(*answered) {
		looks++
		time.Sleep(time.Microsecond)
	}
	return looks
}

func TestLinger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var last atomic.Pointer[lingering]
		l := &lingering{last: &last}
		var answered uint64
		for range lockstep {
			if n := loop(l, &answered, 1); n != 0 {
				t.Fatal("lingers before the client is known to be in lockstep:", n)
			}
		}
		if n := loop(l, &answered, 1); n != int(lingerTime/time.Microsecond) {
			t.Fatal("lingers for looks:", n)
		}

		// In vain, so that it becomes rare.
		begun := 0
		for range 1000 {
			if loop(l, &answered, 1) > 0 {
				begun++
			}
		}
		if begun < 1000/maxSkips || begun > 30 {
			t.Error("of 1000 times in vain it lingers", begun)
		}

		// A client that answers in time is lingered for each time again.
		for loop(l, &answered, 1) == 0 {
		}
		for l.skip > 0 {
			l.again(answered)
		}
		for i := range 100 {
			answered++
			if !l.again(answered) {
				t.Fatal("does not linger, time", i)
			}
			l.found()
		}

		if loop(l, &answered, 2) != 0 {
			t.Error("lingers although the client has several requests in flight")
		}
	})
}

// Of two connections that have work by turns none lingers.
func TestLingerAlone(t *testing.T) {
	t.Parallel()
	var last atomic.Pointer[lingering]
	a, b := &lingering{last: &last}, &lingering{last: &last}
	var answered uint64
	for range 100 {
		answered++
		if a.again(answered) || b.again(answered) {
			t.Fatal("lingers")
		}
	}
}
