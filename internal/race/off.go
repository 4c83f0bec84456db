//go:build !race

// Package race tells tests whether the race detector is on, under which
// pools lose objects on purpose and allocations cannot be counted.
package race

// Enabled reports whether the race detector is on.
const Enabled = false
