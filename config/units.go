package config

import (
	"fmt"
	"strconv"
	"time"
)

// formatBytes is the shortest exact form of n that can be read again: "64K",
// "1000".
func formatBytes(n int64) string {
	const units = "KMGTPE"
	suffix := 0
	for n != 0 && n%1024 == 0 && suffix < len(units) {
		n /= 1024
		suffix++
	}
	if suffix == 0 {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(n, 10) + units[suffix-1:suffix]
}

// parseDuration reads a duration that is not negative.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if n, convErr := strconv.ParseUint(s, 10, 64); convErr == nil {
			return 0, fmt.Errorf(`%q is not a duration: write the unit, as in "%ds" or "%dms"`, s, n, n)
		}
		return 0, fmt.Errorf(`%q is not a duration: expected numbers with units, as in "10ms", "1.5s" or "1m30s"`, shorten(s))
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", s)
	}
	return d, nil
}
