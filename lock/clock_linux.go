package lock

import (
	"time"

	"golang.org/x/sys/unix"
)

// A bootClock is a systemClock that goes on while the machine sleeps.
type bootClock struct{ systemClock }

func (bootClock) Now() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return systemClock{}.Now()
	}
	return time.Duration(t.Nano())
}
