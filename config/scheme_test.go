package config

import (
	"context"
	"os"
	"testing"
)

// TestSchemeInPath: a file whose path looks like a URI of an unknown scheme
// can be served still.
func TestSchemeInPath(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("http:", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("http:/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := &Loader{Registry: specRegistry()}
	x, err := l.Arg(context.Background(), "http://x")
	if err != nil || x.Device.cons.Name != "file" || !l.IsPath("http://x") {
		t.Errorf("%v, %v", x, err)
	}
	if l.IsPath("http://y") {
		t.Error("a URI is a path")
	}
}
