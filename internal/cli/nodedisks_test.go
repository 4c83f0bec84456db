package cli

import (
	"strings"
	"testing"

	"github.com/strata-storage/strata/cluster"
)

// A mistyped option is no part of the name of a file. Paths may have commas.
func TestDiskOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]cluster.DiskOptions{
		"/dev/sdb":                           {Path: "/dev/sdb"},
		"/mnt/a,size=1G":                     {Path: "/mnt/a", Size: 1 << 30},
		"/mnt/a,weight=2K,size=1K,overwrite": {Path: "/mnt/a", Size: 1 << 10, Weight: 2 << 10, Overwrite: true},
		"/mnt/a, b":                          {Path: "/mnt/a, b"},
		"/mnt/a,b,size=1K":                   {Path: "/mnt/a,b", Size: 1 << 10},
	} {
		if got, err := diskOf(text); got != want || err != nil {
			t.Errorf("%s: %+v, %v, expected %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"/mnt/a,size=1G,foo":     `unknown option "foo"`,
		"/mnt/a,sise=1G":         `did you mean "size"?`,
		"/mnt/a,foo=1,size=1G":   `unknown option "foo"`,
		"/mnt/a,overwrit":        `did you mean "overwrite"?`,
		"/mnt/a,size=1G,wieght=": `did you mean "weight"?`,
		"/mnt/a,size=x":          `"x" is not a size`,
	} {
		if got, err := diskOf(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, expected %s", text, got, err, want)
		}
	}
}

// A place where nodes join is an address.
func TestWithPort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"web1": "web1:10810", "web1:7": "web1:7", "::1": "[::1]:10810", "[::1]:7": "[::1]:7", "192.0.2.1": "192.0.2.1:10810",
		"": "", "web1:": "", ":7": "", "web1:0": "", "web1:65536": "", "[::1": "", "[::1]": "", "http://web1": "", "a b": "",
	} {
		if got, err := withPort(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, expected %q", text, got, err, want)
		}
	}
}
