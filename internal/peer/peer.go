// Package peer finds and runs the foreign programs that tests measure this one
// against.
package peer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need ends the test unless all of the programs are installed: it skips it on
// a developer's machine, and fails it when the environment variable CI is set.
// It returns the path of the first one. Programs for the administrator are
// found although their directories are not in PATH.
func Need(t testing.TB, programs ...string) string {
	t.Helper()
	var first string
	for _, name := range programs {
		path, ok := find(name)
		if !ok {
			Missing(t, "%s is not installed", name)
		}
		if first == "" {
			first = path
		}
	}
	return first
}

// Missing ends the test for want of something that somebody could install or
// allow: it skips it on a developer's machine, and fails it when the
// environment variable CI is set.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format+", and CI needs it", args...)
	}
	t.Skipf(format, args...)
}

// Cannot skips the test for want of something that this machine cannot have:
// a right, a device, a property of its file system. As a skipped test goes
// unnoticed, it is also noted in the file that the environment variable
// STRATA_NOT_TESTED names, which .ci/run shows at its end.
func Cannot(t testing.TB, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	if name := os.Getenv("STRATA_NOT_TESTED"); name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
		f.Close()
	}
	t.Skip(why)
}

func find(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, true
		}
	}
	return "", false
}
