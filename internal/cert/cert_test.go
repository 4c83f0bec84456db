package cert

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
)

func TestMake(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	files, err := Make(dir, Options{Hosts: []string{"nas.example", "192.0.2.7"}, Clients: []string{"vm1", "vm2"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "ca-cert.pem ca-key.pem server-cert.pem server-key.pem client-cert.pem client-key.pem vm2-cert.pem vm2-key.pem"
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if secret := strings.HasSuffix(f.Name, "-key.pem"); secret && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name, info.Mode())
		}
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("made %s, want %s", got, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "nas.example", "192.0.2.7"} {
		if got := handshake(t, dir, "client", host); got != "vm1" {
			t.Errorf("the server at %s sees client %q, want vm1", host, got)
		}
	}
	if got := handshake(t, dir, "vm2", "localhost"); got != "vm2" {
		t.Errorf("the server sees client %q, want vm2", got)
	}
}

// handshake connects a client and a server that check each other, and
// returns the name that the server saw.
func handshake(t *testing.T, dir, client, host string) string {
	t.Helper()
	load := func(prefix string) tls.Certificate {
		c, err := tls.LoadX509KeyPair(filepath.Join(dir, prefix+"-cert.pem"), filepath.Join(dir, prefix+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	a, b := net.Pipe()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{load("server")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	c := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{load(client)}, RootCAs: pool, ServerName: host})
	done := make(chan error, 1)
	go func() {
		err := c.Handshake()
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		done <- err
	}()
	if _, err := server.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatalf("client that connects to %s: %v", host, err)
	}
	a.Close()
	b.Close()
	return server.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestNothingIsOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "client-key.pem"), []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Make(dir, Options{})
	want := filepath.Join(dir, "client-key.pem") + " exists; choose another directory, or --force to replace it"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files after the refusal, want the one that was there", len(left))
	}
	if _, err := Make(dir, Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "client-key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key that was replaced has mode %v, %v", info.Mode(), err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		`client name "a/b" cannot be part of a file name`:  {Clients: []string{"a/b"}},
		`client name "" cannot be part of a file name`:     {Clients: []string{""}},
		`client name "x" would be used for two files`:      {Clients: []string{"x", "x"}},
		`client name "server" would be used for two files`: {Clients: []string{"x", "server"}},
		`host "a b" is neither a name nor an IP address`:   {Hosts: []string{"a b"}},
		`host "h:99" is neither a name nor an IP address`:  {Hosts: []string{"h:99"}},
		"the certificates would never be valid":            {Valid: -time.Hour},
	} {
		if _, err := Make(t.TempDir(), o); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestOpenSSL has another implementation check the chain.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	peer.Need(t, "openssl")
	dir := t.TempDir()
	if _, err := Make(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	for purpose, file := range map[string]string{"sslserver": "server-cert.pem", "sslclient": "client-cert.pem"} {
		cmd := exec.CommandContext(t.Context(), "openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca-cert.pem", file)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
