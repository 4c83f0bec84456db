// Package peer finds the foreign programs that tests measure this one
// against.
package peer

import (
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
		switch {
		case !ok && os.Getenv("CI") != "":
			t.Fatalf("%s is not installed, and CI needs it", name)
		case !ok:
			t.Skipf("%s is not installed", name)
		}
		if first == "" {
			first = path
		}
	}
	return first
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
