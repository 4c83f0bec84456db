// Package peer is for tests that run other people's programs.
package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need makes sure that Path finds the programs: if one is missing, it skips
// the test on a developer's machine, and fails it if the environment variable
// CI is not empty.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := Path(p); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs the program %s, which is not installed", p)
		}
		t.Skipf("this test needs the program %s, which is not installed", p)
	}
}

// Path returns where the program is: in PATH or in /usr/sbin.
func Path(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", program))
}
