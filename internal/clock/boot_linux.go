package clock

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Boot is System, but its Now goes on while the machine sleeps: whoever sleeps
// through the end of a lease knows it at once. Timers may be late by the sleep.
type Boot struct{ System }

// Now is the time since the machine was started.
func (Boot) Now() time.Duration {
	var t unix.Timespec
	// It does not wait, so that the scheduler need not be told.
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return System{}.Now()
	}
	return time.Duration(t.Nano())
}
