package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/nbd"
)

// TestPrerunAndPostrun: the commands see who connects, run once for each
// connection and not for probes.
func TestPrerunAndPostrun(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	out := filepath.Join(t.TempDir(), "out")
	line := `echo "$STRATA_EVENT $STRATA_EXPORT $STRATA_PEER $STRATA_UID [$STRATA_IDENTITY]" >> "$0"`
	_, loader := newLab()
	s := &Set{}
	mustApply(t, s, mustLoad(t, loader, fmt.Sprintf(`
c = ["sh", "-c", %q, %q]
export("a b", mem(1), prerun=c, postrun=c)
`, line, out)))
	peer := &nbd.Peer{Addr: &net.UnixAddr{Net: "unix"}, Cred: &nbd.Cred{UID: 7, PID: 5}}
	if _, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "a b", Peer: peer, Probe: true}); err != nil {
		t.Fatal(err)
	}
	x, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "a b", Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	x.Release()
	got, err := os.ReadFile(out)
	want := "prerun a b unix pid 5 uid 7 7 []\npostrun a b unix pid 5 uid 7 7 []\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestPrerunVeto: whatever keeps a prerun from succeeding keeps the client
// out, and the place of the connection is free again.
func TestPrerunVeto(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, command, timeout, want string }{
		{"exits with 3", `["sh", "-c", "echo not today; exit 3"]`, "30s", `prerun "sh": exit status 3: not today (nbd: access denied)`},
		{"does not exist", `["/does/not/exist"]`, "30s", `prerun "/does/not/exist": fork/exec /does/not/exist: no such file or directory (nbd: access denied)`},
		{"never ends, its child neither", `["sh", "-c", "sleep 1000 & sleep 1000"]`, "20ms", `prerun "sh": killed after 20ms (nbd: access denied)`},
		{"says a lot", `["sh", "-c", "yes | head -c 100000; exit 1"]`, "30s", "exit status 1: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			_, loader := newLab()
			log := &logBuffer{}
			s := &Set{Log: slog.New(slog.NewTextHandler(log, nil))}
			mustApply(t, s, mustLoad(t, loader, fmt.Sprintf(
				`export("x", mem(1), max_connections=1, prerun=%s, run_timeout=%q)`, tt.command, tt.timeout)))
			for range 2 {
				start := time.Now()
				_, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "x", Peer: tcpPeer("10.0.0.1:1")})
				if !errors.Is(err, nbd.ErrDenied) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > maxOutput+200 {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
				if d := time.Since(start); d > 20*time.Second {
					t.Errorf("took %v", d)
				}
			}
			if !strings.Contains(log.String(), "access denied") {
				t.Errorf("logged %q", log)
			}
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPostrunFailure is logged and harms nobody.
func TestPostrunFailure(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, loader := newLab()
	log := &logBuffer{}
	s := &Set{Log: slog.New(slog.NewTextHandler(log, nil))}
	mustApply(t, s, mustLoad(t, loader, `export("x", mem(1), postrun=["false"])`))
	x, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "", Peer: tcpPeer("10.0.0.1:1")})
	if err != nil {
		t.Fatal(err)
	}
	x.Release()
	if !strings.Contains(log.String(), "postrun failed") {
		t.Errorf("logged %q", log)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestPrerunCancelled: a client that gives up ends its prerun.
func TestPrerunCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	_, loader := newLab()
	s := &Set{}
	started := filepath.Join(t.TempDir(), "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	mustApply(t, s, mustLoad(t, loader, fmt.Sprintf(
		`export("x", mem(1), prerun=["sh", "-c", "echo > \"$0\"; sleep 1000", %q])`, started)))
	done := make(chan error)
	go func() {
		_, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "x", Peer: tcpPeer("10.0.0.1:1")})
		done <- err
	}()
	if _, err := os.ReadFile(started); err != nil { // waits for the command to write
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
