//go:build !race

// Package race tells whether the race detector is on. Tests must know, as under it
// pools lose objects on purpose and allocations cannot be counted; so must who
// goes around package syscall, which tells it what happens before what.
package race

// Enabled reports whether the race detector is on.
const Enabled = false
