package peer

import (
	"path/filepath"
	"testing"
)

func TestPath(t *testing.T) {
	t.Parallel()
	Need(t, "sh")
	path, err := Path("sh")
	if err != nil || filepath.Base(path) != "sh" {
		t.Errorf("Path(sh) = %q, %v", path, err)
	}
	if path, err := Path("no such program"); err == nil {
		t.Errorf("found %q", path)
	}
}

// A missing program skips on a laptop and fails in CI.
func TestNeedMissing(t *testing.T) {
	for _, tt := range []struct{ ci, want string }{{"", "skip"}, {"true", "fatal"}} {
		t.Setenv("CI", tt.ci)
		r := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			Need(r, "no such program")
		}()
		if r.got != tt.want {
			t.Errorf("CI=%q: %q, want %q", tt.ci, r.got, tt.want)
		}
	}
}

type recorder struct {
	testing.TB
	got string
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.got = "fatal"; panic("stop") }
func (r *recorder) Skipf(string, ...any)  { r.got = "skip"; panic("stop") }
