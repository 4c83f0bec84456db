package e2e

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/internal/peer"
)

// Clients prove who they are, with both versions of TLS. GnuTLS 3.7 keeps its
// certificate back on TLS 1.3 if the server sends a list of authorities. What
// version is used is what GnuTLS says, not what it was asked for.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "", `d=mem("1M")`)
	with := func(program string, args ...string) (out, said string) {
		t.Helper()
		cmd := command(t, program, args...)
		cmd.Env = append(cmd.Env, "GNUTLS_DEBUG_LEVEL=4")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %v: %v: %s", program, args, err, stderr.String())
		}
		return stdout.String(), stderr.String()
	}
	const is13, asked, isOld = "Negotiated version: 3.4", "CERTIFICATE REQUEST (13) was received", "Server's version: 3.3"
	out, said := with("nbdinfo", s.uri("d"))
	want(t, out, "newstyle-fixed with TLS", "1048576")
	want(t, said, is13, asked)

	qemu := func(priority string) (string, string) {
		args := append([]string{"info"}, s.qemuObject(priority)...)
		return with("qemu-img", append(args, "--image-opts", s.qemuDisk("d"))...)
	}
	out, said = qemu("NORMAL:-VERS-ALL:+VERS-TLS1.3")
	want(t, out, "1 MiB")
	want(t, said, is13, asked)
	out, said = qemu("NORMAL:-VERS-ALL:+VERS-TLS1.2")
	want(t, out, "1 MiB")
	want(t, said, isOld, asked)
	if strings.Contains(said, is13) {
		t.Error("QEMU uses TLS 1.3 where it was to use 1.2")
	}
	old := append([]string{"info"}, s.qemuObject("NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0")...)
	if out, err := try(t, "qemu-img", append(old, "--image-opts", s.qemuDisk("d"))...); err == nil {
		t.Errorf("TLS 1.1 is allowed: %s", out)
	}
}

// Who has no certificate, or not one of the right authority, does not get in,
// and the server goes on.
func TestStrangersStayOutside(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "", "--verbose", `d=mem("1M")`)
	other := certificates(t, cert.Options{})
	bare := t.TempDir()
	run(t, "cp", filepath.Join(s.tls, "ca-cert.pem"), bare)
	mixed := t.TempDir()
	run(t, "cp", filepath.Join(s.tls, "ca-cert.pem"), filepath.Join(other, "client-cert.pem"), filepath.Join(other, "client-key.pem"), mixed)
	at := func(dir string) string { return strings.Replace(s.uri("d"), s.tls, dir, 1) }

	for _, dir := range []string{bare, mixed, other} {
		if out, err := try(t, "nbdinfo", at(dir)); err == nil {
			t.Errorf("nbdinfo gets in with the certificates of %s: %s", dir, out)
		}
	}
	refuse(t, "certificate", "strata", "info", at(bare))
	refuse(t, "certificate", "strata", "info", at(mixed))
	refuse(t, "unknown authority", "strata", "info", at(other))
	refuse(t, "not elsewhere", "strata", "info", strings.Replace(s.uri("d"), "tls-hostname=localhost", "tls-hostname=elsewhere", 1))
	refuse(t, "TLS", "strata", "info", "nbd+unix:///d?socket="+s.socket)
	run(t, "strata", "info", s.uri("d"))
}

// A server whose certificate has expired does not start, and a client does
// not trust one.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	pki := certificates(t, cert.Options{Now: time.Now().Add(-48 * time.Hour), Valid: time.Hour})
	refuse(t, "expired", "strata", "serve", "--control", "none", "--listen", "unix://"+filepath.Join(shortDir(t), "s"),
		"--tls-cert", filepath.Join(pki, "server-cert.pem"), "--tls-key", filepath.Join(pki, "server-key.pem"), `mem("1M")`)

	// nbdkit does not look at its own certificate, and clear text is as
	// good to it.
	socket := peer.Start(t, "nbdkit", "-f", "-U", "SOCKET", "--tls=on", "--tls-certificates="+pki, "memory", "1M")
	uri := "+unix:///?socket=" + socket
	run(t, "strata", "info", "nbd"+uri)
	know := t.TempDir()
	run(t, "cp", filepath.Join(pki, "ca-cert.pem"), know)
	refuse(t, "the server's certificate is not trusted: certificate has expired", "strata",
		"info", "nbds"+uri+"&tls-hostname=localhost&tls-certificates="+know)
	refuse(t, "the server's certificate is not trusted: certificate has expired", "strata",
		"copy", "--progress", "none", `mem("1M")`, "nbds"+uri+"&tls-hostname=localhost&tls-certificates="+know)
}
