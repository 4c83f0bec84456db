package source_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/source"
)

// serve serves what s has to serve on a Unix socket, and returns a URI of the
// export named disk.
func serve(t testing.TB, scheme string, s *nbd.Server) string {
	t.Helper()
	path := filepath.Join(shm(t), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return scheme + "+unix:///disk?socket=" + path
}

func TestNBDConformance(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		uri := serve(t, "nbd", &nbd.Server{Exports: nbd.Exports{{Name: "disk", Device: mustMem(t, mib)}}})
		d, err := source.NBD(context.Background(), source.NBDOptions{URI: uri, Conns: 2})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, blocktest.Seeds(1))
}

func TestNBDRefused(t *testing.T) {
	t.Parallel()
	uri := serve(t, "nbd", &nbd.Server{Exports: nbd.Exports{{Name: "disk", Device: mustMem(t, mib)}}})
	for _, c := range []struct {
		o    source.NBDOptions
		want string
	}{
		{source.NBDOptions{URI: "disk.img"}, "disk.img"},
		{source.NBDOptions{URI: strings.Replace(uri, "disk", "disc", 1)}, `the server has no export "disc"`},
		{source.NBDOptions{URI: uri, Conns: 65}, "65 connections"},
		{source.NBDOptions{URI: uri, TLSCA: "ca.pem"}, "which does not use TLS (nbds does)"},
		{source.NBDOptions{URI: "nbds://h/?tls-certificates=/etc/pki", TLSCA: "ca.pem"}, "names its own directory"},
		{source.NBDOptions{URI: "nbds://h/?tls-hostname=a", TLSHostname: "b"}, "tls_hostname is b"},
		{source.NBDOptions{URI: "nbds://h/", TLSCA: "/none/ca.pem"}, "/none/ca.pem"},
	} {
		d, err := source.NBD(t.Context(), c.o)
		if err == nil {
			d.Close()
			t.Errorf("%+v: no error", c.o)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// The files given make the connection that the server demands.
func TestNBDTLS(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	if _, err := cert.Make(dir, cert.Options{}); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	files := nbd.TLSFiles{Cert: in("server-cert.pem"), Key: in("server-key.pem"), ClientCA: in("ca-cert.pem")}
	cfg, err := files.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	uri := serve(t, "nbds", &nbd.Server{
		Exports: nbd.Exports{{Name: "disk", Device: mustMem(t, mib)}}, TLS: nbd.TLSRequired, TLSConfig: cfg,
	})
	o := source.NBDOptions{
		URI: uri, TLSCA: in("ca-cert.pem"), TLSCert: in("client-cert.pem"), TLSKey: in("client-key.pem"), TLSHostname: "localhost",
	}
	d, err := source.NBD(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.WriteAt(ctx, make([]byte, 512), 0, 0), d.Close()); err != nil {
		t.Error(err)
	}
	o.TLSHostname = "elsewhere"
	if d, err := source.NBD(ctx, o); err == nil {
		d.Close()
		t.Error("a certificate for another name is accepted")
	}
}

// A lost connection is an error at once if that is asked for.
func TestNBDNoReconnect(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s := &nbd.Server{Exports: nbd.Exports{{Name: "disk", Device: mustMem(t, mib)}}}
	uri := serve(t, "nbd", s)
	d, err := source.NBD(ctx, source.NBDOptions{URI: uri, NoReconnect: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s.Close()
	if err := d.Flush(ctx); !errors.Is(err, block.ErrIO) || ctx.Err() != nil {
		t.Error(err)
	}
}
