//go:build !linux

package clock

// Boot is System.
type Boot struct{ System }
