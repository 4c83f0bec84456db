//go:build !linux

package lock

// A bootClock is a systemClock.
type bootClock struct{ systemClock }
