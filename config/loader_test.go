package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLoadStrangeFiles: what is no file of text is neither waited for nor read
// without end.
func TestLoadStrangeFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/dev/zero": "/dev/zero: the file is longer than 1048576 bytes",
		dir:         "is a directory",
	} {
		if _, err := (&Loader{}).Load(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for _, path := range []string{pipe, "/dev/null"} {
		if c, err := (&Loader{}).Load(t.Context(), path); err != nil || len(c.Exports) > 0 {
			t.Errorf("%s: %v, want that nothing is in it", path, err)
		}
	}
}
