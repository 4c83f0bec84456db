package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/cert"
)

// Clients prove who they are, with both versions of TLS. GnuTLS 3.7 keeps its
// certificate back on TLS 1.3 if the server sends a list of authorities.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "", `d=mem("1M")`)
	want(t, run(t, "nbdinfo", s.uri("d")), "newstyle-fixed with TLS", "1048576")
	for _, priority := range []string{"NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"} {
		args := append([]string{"info"}, s.qemuObject(priority)...)
		want(t, run(t, "qemu-img", append(args, "--image-opts", s.qemuDisk("d"))...), "1 MiB")
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
}
