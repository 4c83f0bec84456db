// Package clock has the clocks that leases are measured by.
package clock

import "time"

// System is the clock of package time, and so that of a testing/synctest bubble.
type System struct{}

var started = time.Now()

// Now is the time since the start of the process.
func (System) Now() time.Duration { return time.Since(started) }

// AfterFunc is that of package time.
func (System) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}
