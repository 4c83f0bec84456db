package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// socket is a path for one, which is short enough.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// What one side sends the other one gets, and an error with its text.
func TestRequests(t *testing.T) {
	t.Parallel()
	path := socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	type note struct{ Text string }
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		var n note
		if Read(w, r, &n) {
			Answer(w, http.StatusOK, n)
		}
	})
	mux.HandleFunc("GET /fail", func(w http.ResponseWriter, r *http.Request) { Fail(w, http.StatusConflict, errors.New("it is so")) })
	var s Servers
	s.Serve(l, mux)
	t.Cleanup(s.Close)
	c := NewClient(path, "node")
	var got note
	if err := c.Post(t.Context(), "/echo", note{"hello"}, &got); err != nil || got.Text != "hello" {
		t.Errorf("%v, %v", got, err)
	}
	for path, says := range map[string]string{"/fail": "it is so", "/nothing": "404"} {
		if err := c.Get(t.Context(), path, &got); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := c.Post(t.Context(), "/echo", map[string]int{"size": 1}, &got); err == nil || !strings.Contains(err.Error(), `"size"`) {
		t.Errorf("an unknown field: %v", err)
	}
	if err := c.Post(t.Context(), "/echo", note{strings.Repeat("x", maxRequest)}, &got); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("too much: %v", err)
	}
}

// Where nobody is, that is what the error says.
func TestNobody(t *testing.T) {
	t.Parallel()
	path := socket(t)
	var nobody *NobodyError
	if err := NewClient(path, "node").Get(context.Background(), "/", nil); !errors.As(err, &nobody) || nobody.Path != path {
		t.Errorf("there is no socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := NewClient(path, "node").Get(context.Background(), "/", nil); !errors.As(err, &nobody) {
		t.Errorf("the socket of a process that is dead: %v", err)
	}
}
