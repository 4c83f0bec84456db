package nbd

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// There is no peer for vsock on most machines: the error must come, and name
// the address.
func TestDialVSock(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	conn, err := dialVSock(ctx, "1", "4294967290")
	if err == nil {
		conn.Close()
		t.Fatal("somebody listens at the last port")
	}
	if !strings.Contains(err.Error(), "dial vsock 1:4294967290") {
		t.Errorf("got %v", err)
	}
}

func TestDialAddresses(t *testing.T) {
	t.Parallel()
	s := &Server{Exports: memExport(4096)}
	t.Cleanup(func() { s.Close() })
	for _, at := range []struct{ network, addr, uri string }{
		{"tcp", "127.0.0.1:0", "nbd://ADDR/vm"},
		{"tcp", "[::1]:0", "nbd://ADDR/vm"},
		{"unix", "@strata-test-abstract", "nbd+unix:///vm?socket=%00strata-test-abstract"},
	} {
		l, err := net.Listen(at.network, at.addr)
		if err != nil {
			t.Logf("%s is not to be had here: %v", at.addr, err)
			continue
		}
		go s.Serve(l)
		c, err := Dial(t.Context(), strings.Replace(at.uri, "ADDR", l.Addr().String(), 1))
		if err != nil {
			t.Errorf("%s: %v", at.uri, err)
			continue
		}
		if c.Info().Size != 4096 {
			t.Errorf("%s: %+v", at.uri, c.Info())
		}
		c.Close()
	}
}
