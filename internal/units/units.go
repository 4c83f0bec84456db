// Package units turns numbers of bytes and seconds into text for people, and
// back.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes writes n in the largest binary unit that leaves a number of at least
// one, with one decimal: "1.5 GiB". Whole numbers have no decimal.
func Bytes(n int64) string {
	return scaled(float64(n), 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
}

// Rate writes a number of bytes per second: "812.4 MiB/s".
func Rate(bytesPerSecond float64) string { return Bytes(clampInt(bytesPerSecond)) + "/s" }

// Count writes n in decimal thousands: "12.3k".
func Count(n float64) string {
	return strings.ReplaceAll(scaled(n, 1000, "", "k", "M", "G"), " ", "")
}

// Plural writes how many there are of what: "1 disk", "2 disks", "3 copies".
func Plural(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "y"):
		return strconv.Itoa(n) + " " + strings.TrimSuffix(what, "y") + "ies"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func scaled(v, base float64, names ...string) string {
	i := 0
	for math.Abs(v) >= base && i < len(names)-1 {
		v /= base
		i++
	}
	text := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + " " + names[i]
}

func clampInt(v float64) int64 {
	if !(v > 0) {
		return 0
	}
	return int64(min(v, math.MaxInt64/2))
}

// Duration writes d with three digits, for latencies: "12.3µs", "1.5s".
func Duration(d time.Duration) string {
	switch {
	case d >= 100*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d >= 10*time.Microsecond:
		return d.Round(100 * time.Nanosecond).String()
	}
	return d.String()
}

// Clock writes d as minutes and seconds, for what remains: "1:05", "2:10:00".
func Clock(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// ParseBytes reads a number of bytes with an optional binary unit: "4096",
// "64k", "1.5G", "10MiB". A unit is a power of 1024 whether or not it says
// so. The result is never negative.
func ParseBytes(s string) (int64, error) {
	digits := strings.TrimRight(strings.TrimSpace(s), "kKmMgGtTpPeEiIbB ")
	unit := strings.ToLower(strings.TrimSpace(strings.TrimSpace(s)[len(digits):]))
	shift, ok := unitShift[unit]
	v, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(v >= 0) || math.IsInf(v, 0) || strings.ContainsAny(digits, "xX_pP") {
		return 0, fmt.Errorf("%q is not a size: write a number and K, M, G or T, as in 64K or 1.5G", s)
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n <= math.MaxInt64>>shift {
		return n << shift, nil
	}
	v = math.Ldexp(v, shift)
	if v >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large: a size is less than 8 EiB", s)
	}
	return int64(v), nil
}

var unitShift = map[string]int{
	"": 0, "b": 0,
	"k": 10, "kb": 10, "kib": 10,
	"m": 20, "mb": 20, "mib": 20,
	"g": 30, "gb": 30, "gib": 30,
	"t": 40, "tb": 40, "tib": 40,
	"p": 50, "pb": 50, "pib": 50,
	"e": 60, "eb": 60, "eib": 60,
}
