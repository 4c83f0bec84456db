package lock

import "time"

// A Clock is where the time comes from. Tests have their own.
type Clock interface {
	// Now is the time since a moment that stays the same. It never goes back.
	// That of a client should go on while the machine sleeps.
	Now() time.Duration
	// AfterFunc calls f in a goroutine of its own when d has passed, unless
	// stop is called before; stop tells whether it was in time.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}
