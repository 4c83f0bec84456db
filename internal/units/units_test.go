package units

import (
	"math"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB",
		1 << 30: "1 GiB", 10 << 40: "10 TiB", math.MaxInt64: "8 EiB", -2048: "-2 KiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRateAndCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{Rate(1 << 20), "1 MiB/s"},
		{Rate(math.NaN()), "0 B/s"},
		{Rate(math.Inf(1)), "4 EiB/s"},
		{Count(999), "999"},
		{Count(12345), "12.3k"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestPlural(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][2]string{0: {"0 disks", "0 copies"}, 1: {"1 disk", "1 copy"}, 2: {"2 disks", "2 copies"}, -1: {"-1 disks", "-1 copies"}} {
		if got := [2]string{Plural(n, "disk"), Plural(n, "copy")}; got != want {
			t.Errorf("%v, expected %v", got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{Duration(123 * time.Nanosecond), "123ns"},
		{Duration(12345 * time.Nanosecond), "12.3µs"},
		{Duration(1234567 * time.Nanosecond), "1.23ms"},
		{Duration(1234567 * time.Microsecond), "1.23s"},
		{Duration(200 * time.Second), "3m20s"},
		{Clock(65 * time.Second), "1:05"},
		{Clock(7800 * time.Second), "2:10:00"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "512": 512, "4k": 4096, "4K": 4096, "4KiB": 4096, "4 kB": 4096,
		"1.5G": 3 << 29, "1T": 1 << 40, "7e": 7 << 60, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "k", "-1", "1x", "8E", "9223372036854775808", "1kk", "0x10", "nan", "inf", "1_0"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", s, got)
		}
	}
}
