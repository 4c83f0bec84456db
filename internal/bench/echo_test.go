package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/internal/cert"
)

// Every message is answered, whatever its size, the number in flight and of
// connections, and the transport.
func TestEcho(t *testing.T) {
	t.Parallel()
	certs := filepath.Join(t.TempDir(), "certs")
	if _, err := cert.Make(certs, cert.Options{}); err != nil {
		t.Fatal(err)
	}
	l := &lab{certs: certs}
	for _, p := range []place{
		{transport: overUnix, socket: filepath.Join(t.TempDir(), "s")},
		{transport: overTCP, port: l.freePort()},
		{transport: overTLS, port: l.freePort()},
	} {
		args := bareEcho.command(l, p)
		failed := make(chan error, 1)
		go func() { failed <- serveEcho(args[2:]) }()
		awaitListener(t, p, failed)
		for _, ld := range []load{{"randread", 4096, 1, 1}, {"randread", 4096, 64, 4}, {"write", 64 << 10, 4, 1}, {"write", 1 << 20, 4, 2}, {"read", 1 << 20, 4, 2}} {
			// No time at all: what is sent first is answered, and that is it.
			_, total, err := l.echo(context.Background(), &running{place: p}, ld)
			if err != nil || total != int64(ld.depth*ld.conns) {
				t.Errorf("%v, %v: %d answers: %v", args[2:], ld, total, err)
			}
		}
	}
}

func awaitListener(t *testing.T, p place, failed <-chan error) {
	t.Helper()
	network, address := p.address()
	for {
		if c, err := net.Dial(network, address); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
	}
}

func TestEchoRefuses(t *testing.T) {
	t.Parallel()
	if err := serveEcho([]string{"tcp", "127.0.0.1:0", t.TempDir()}); err == nil {
		t.Error("a folder without certificates is accepted")
	}
	if err := serveEcho([]string{"unix", filepath.Join(t.TempDir(), "missing", "s")}); err == nil {
		t.Error("an address that is not there is accepted")
	}
}

// The limit is measured in rounds that are spread over all of them.
func TestSpread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		k, n int
		want string
	}{{3, 5, "x.x.x"}, {1, 3, "x.."}, {3, 1, "x"}, {5, 5, "xxxxx"}, {0, 2, ".."}} {
		got := ""
		for i := range tt.n {
			if spread(i, tt.k, tt.n) {
				got += "x"
			} else {
				got += "."
			}
		}
		if got != tt.want {
			t.Errorf("%d of %d: %s, want %s", tt.k, tt.n, got, tt.want)
		}
	}
}
