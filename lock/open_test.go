package lock_test

import (
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/lock"
)

// TestOpen: addresses that are none are told what one looks like.
func TestOpen(t *testing.T) {
	t.Parallel()
	for where, want := range map[string]string{
		"":                      `lock "": want none, file:PATH or tcp://HOST:PORT/NAME`,
		"file":                  `lock "file": want none, file:PATH or tcp://HOST:PORT/NAME`,
		"file:":                 `lock "file:": the path of the lock file is missing`,
		"tcp://host/name":       `lock "tcp://host/name": want tcp://HOST:PORT/NAME: address host: missing port in address`,
		"tcp://host:1":          `lock "tcp://host:1": want tcp://HOST:PORT/NAME with a name of 1 to 255 bytes`,
		"unix:///run/lock.sock": `lock "unix:///run/lock.sock": want none, file:PATH or tcp://HOST:PORT/NAME`,
	} {
		if _, err := lock.Open(t.Context(), where); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", where, err, want)
		}
	}
	if l, err := lock.Open(t.Context(), "none"); l != nil || err != nil {
		t.Errorf("none: %v, %v", l, err)
	}
	l, err := lock.Open(t.Context(), "file:"+filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
