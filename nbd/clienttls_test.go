package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/internal/peer"
)

// labTLS makes certificates, and with them a server's configuration that
// demands certificates of clients.
func labTLS(t testing.TB) (cfg *tls.Config, dir string) {
	t.Helper()
	dir = t.TempDir()
	if _, err := cert.Make(dir, cert.Options{Clients: []string{"alice"}}); err != nil {
		t.Fatal(err)
	}
	cfg, err := labFiles(dir).ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	return cfg, dir
}

func labFiles(dir string) TLSFiles {
	return TLSFiles{
		Cert:     filepath.Join(dir, "server-cert.pem"),
		Key:      filepath.Join(dir, "server-key.pem"),
		ClientCA: filepath.Join(dir, "ca-cert.pem"),
	}
}

// Foreign servers with TLS, which ask for a certificate.
func TestClientTLSPeers(t *testing.T) {
	t.Parallel()
	_, dir := labTLS(t)
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"nbdkit": {"-f", "-U", "SOCKET", "--tls=require", "--tls-verify-peer", "--tls-certificates=" + dir, "memory", "16M"},
		"qemu-nbd": {"-f", "raw", "-t", "-e", "4", "-k", "SOCKET",
			"--object", "tls-creds-x509,id=t,endpoint=server,verify-peer=on,dir=" + dir, "--tls-creds", "t", disk},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := startPeer(t, name, args...)
			if _, err := Dial(t.Context(), plain); err == nil || !strings.Contains(err.Error(), "nbds://") {
				t.Errorf("without TLS: %v", err)
			}
			uri := "nbds" + strings.TrimPrefix(plain, "nbd") + "&tls-certificates=" + dir
			if _, err := Dial(t.Context(), uri+"&tls-hostname=elsewhere"); err == nil || !strings.Contains(err.Error(), "elsewhere") {
				t.Errorf("with another name: %v", err)
			}
			c := dialTest(t, &Dialer{Conns: 2}, uri)
			if !strings.HasPrefix(c.Export().TLS, "TLS 1.3 ") {
				t.Errorf("TLS is %q", c.Export().TLS)
			}
			exercise(t, c)
		})
	}
}

// Foreign clients prove who they are to a server with TLSFiles: GnuTLS does
// not if it is sent a list of authorities.
func TestTLSFilesWithForeignClients(t *testing.T) {
	t.Parallel()
	cfg, dir := labTLS(t)
	sockets := t.TempDir()
	socket := filepath.Join(sockets, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var used []string // versions
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		mu.Lock()
		used = append(used, tls.VersionName(cs.Version))
		mu.Unlock()
		return verify(cs)
	}
	s := &Server{Exports: memExport(1 << 20), TLS: TLSRequired, TLSConfig: cfg}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	for version, prio := range map[string]string{"1.3": "NORMAL", "1.2": "NORMAL:-VERS-TLS1.3"} {
		out, err := runPeer(t, "nbdinfo", "--size", "nbds+unix:///vm?socket="+socket+"&tls-certificates="+dir+"&tls-hostname=localhost")
		if err != nil || strings.TrimSpace(out) != "1048576" {
			t.Errorf("nbdinfo: %v: %s", err, out)
		}
		out, err = runPeer(t, "qemu-img", "info",
			"--object", "tls-creds-x509,id=t,endpoint=client,dir="+dir+",priority="+prio,
			"--image-opts", "driver=nbd,server.type=unix,server.path="+socket+",export=vm,tls-creds=t,tls-hostname=localhost")
		if err != nil || !strings.Contains(out, "1 MiB") {
			t.Errorf("qemu-img with TLS %s: %v: %s", version, err, out)
		}
		mu.Lock()
		if want := []string{"TLS 1.3", "TLS " + version}; !slices.Equal(used, want) {
			t.Errorf("nbdinfo and qemu-img have used %v, expected %v", used, want)
		}
		used = nil
		mu.Unlock()
	}
	bare := t.TempDir()
	copyFile(t, filepath.Join(dir, "ca-cert.pem"), filepath.Join(bare, "ca-cert.pem"))
	d := &Dialer{}
	if c, err := d.Dial(t.Context(), "nbds+unix:///vm?socket="+socket+"&tls-certificates="+bare); err == nil {
		c.Close()
		t.Error("a client without certificate got in")
	}
}

func runPeer(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	path := peer.Need(t, program)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	p, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	// A new file in place of the old one, as programs that renew
	// certificates do it.
	if err := os.WriteFile(to+".new", p, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

// serialOf dials with the files of a client in dir and returns the serial
// number of the server's certificate.
func serialOf(t *testing.T, s *Server, dir string) (string, error) {
	t.Helper()
	d := toServer(t, s)
	files := TLSClientFiles{CA: filepath.Join(dir, "ca-cert.pem"), Cert: filepath.Join(dir, "client-cert.pem"), Key: filepath.Join(dir, "client-key.pem")}
	cfg, err := files.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	serial := ""
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		serial = cs.PeerCertificates[0].SerialNumber.String()
		return nil
	}
	d.TLSConfig = cfg
	c, err := d.Dial(t.Context(), "nbds:///vm")
	if err == nil {
		c.Close()
	}
	return serial, err
}

func TestTLSFilesReload(t *testing.T) {
	t.Parallel()
	_, old := labTLS(t)
	_, renewed := labTLS(t)
	dir := t.TempDir()
	names := []string{"server-cert.pem", "server-key.pem", "ca-cert.pem"}
	for _, n := range names {
		copyFile(t, filepath.Join(old, n), filepath.Join(dir, n))
	}
	var mu sync.Mutex
	var reports []error
	files := labFiles(dir)
	files.Report = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, err)
	}
	cfg, err := files.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Exports: memExport(1 << 20), TLS: TLSRequired, TLSConfig: cfg}
	first, err := serialOf(t, s, old)
	if err != nil {
		t.Fatal(err)
	}
	// With one of the files new they do not match, and the old ones serve.
	copyFile(t, filepath.Join(renewed, names[0]), filepath.Join(dir, names[0]))
	s = &Server{Exports: memExport(1 << 20), TLS: TLSRequired, TLSConfig: cfg}
	for range 2 {
		if serial, err := serialOf(t, s, old); err != nil || serial != first {
			t.Errorf("serial %s, %v, expected %s", serial, err, first)
		}
		s = &Server{Exports: memExport(1 << 20), TLS: TLSRequired, TLSConfig: cfg}
	}
	for _, n := range names[1:] {
		copyFile(t, filepath.Join(renewed, n), filepath.Join(dir, n))
	}
	if serial, err := serialOf(t, s, renewed); err != nil || serial == first {
		t.Errorf("serial %s after renewal, %v", serial, err)
	}
	s = &Server{Exports: memExport(1 << 20), TLS: TLSRequired, TLSConfig: cfg}
	if _, err := serialOf(t, s, old); err == nil {
		t.Error("the old client is still let in")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(reports) != 2 || reports[0] == nil || !strings.Contains(reports[0].Error(), "does not match") || reports[1] != nil {
		t.Errorf("reports: %v", reports)
	}
}

func TestTLSFilesErrors(t *testing.T) {
	t.Parallel()
	_, good := labTLS(t)
	_, other := labTLS(t)
	stale := t.TempDir()
	if _, err := cert.Make(stale, cert.Options{Now: time.Now().Add(-48 * time.Hour), Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	ok := labFiles(good)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]TLSFiles{
		"needs its key":           {Cert: ok.Cert},
		"needs its key, and":      {Key: ok.Key},
		"no such file":            {Cert: filepath.Join(good, "none.pem"), Key: ok.Key},
		"key: open":               {Cert: ok.Cert, Key: filepath.Join(good, "none.pem")},
		"does not match":          {Cert: ok.Cert, Key: labFiles(other).Key},
		"holds no key in PEM":     {Cert: ok.Cert, Key: os.DevNull},
		"holds no certificate in": {Cert: ok.Cert, Key: ok.Key, ClientCA: ok.Key},
		"pipe holds no cert":      {Cert: pipe, Key: ok.Key},
		"/dev/zero is longer":     {Cert: ok.Cert, Key: "/dev/zero"},
		"expired on":              {Cert: labFiles(stale).Cert, Key: labFiles(stale).Key},
	} {
		if _, err := f.ServerConfig(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestVerifyClient(t *testing.T) {
	t.Parallel()
	_, dir := labTLS(t)
	_, other := labTLS(t)
	load := func(dir, name string) *x509.Certificate {
		pair, err := loadPair(filepath.Join(dir, name+"-cert.pem"), filepath.Join(dir, name+"-key.pem"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	roots, err := loadCA(filepath.Join(dir, "ca-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, test := range map[string]struct {
		certs []*x509.Certificate
		at    time.Time
		want  string
	}{
		"good":       {[]*x509.Certificate{load(dir, "client")}, now, ""},
		"none":       {nil, now, "no certificate"},
		"foreign":    {[]*x509.Certificate{load(other, "client")}, now, "unknown authority"},
		"a server's": {[]*x509.Certificate{load(dir, "server")}, now, "incompatible key usage"},
		"expired":    {[]*x509.Certificate{load(dir, "client")}, now.AddDate(100, 0, 0), "expired"},
	} {
		err := verifyClient(roots, &tls.ConnectionState{PeerCertificates: test.certs, DidResume: true}, test.at)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	names := CertificateNames(load(dir, "client"))
	if !slices.Contains(names, "cn:alice") || !strings.HasPrefix(names[0], "dn:CN=alice") {
		t.Errorf("names are %q", names)
	}
}

// A client does not use a server whose certificate has expired, not even in
// clear text, which this one would serve.
func TestExpiredServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := cert.Make(dir, cert.Options{Now: time.Now().Add(-48 * time.Hour), Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(labFiles(dir).Cert, labFiles(dir).Key)
	if err != nil {
		t.Fatal(err)
	}
	r := &askedResolver{Exports: memExport(4096)}
	s := &Server{Exports: r, TLS: TLSOptional, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	d := toServer(t, s)
	know := t.TempDir()
	copyFile(t, filepath.Join(dir, "ca-cert.pem"), filepath.Join(know, "ca-cert.pem"))
	_, err = d.Dial(t.Context(), "nbds:///vm?tls-certificates="+know)
	if err == nil || !strings.Contains(err.Error(), "the server's certificate is not trusted: certificate has expired") {
		t.Errorf("got %v", err)
	}
	if n := r.asked.Load(); n != 0 {
		t.Errorf("the client has asked for exports %d times", n)
	}
	dialTest(t, d, "nbd:///vm")
	if r.asked.Load() == 0 {
		t.Error("requests for exports go unnoticed")
	}
}

// An askedResolver counts what it is asked.
type askedResolver struct {
	Exports
	asked atomic.Int32
}

func (r *askedResolver) Resolve(ctx context.Context, req *ExportRequest) (*Export, error) {
	r.asked.Add(1)
	return r.Exports.Resolve(ctx, req)
}

func (r *askedResolver) List(ctx context.Context, peer *Peer) ([]*Export, error) {
	r.asked.Add(1)
	return r.Exports.List(ctx, peer)
}

// Whatever a server without TLS does, nbds does not go on in clear text.
func TestNoDowngrade(t *testing.T) {
	t.Parallel()
	for name, greeting := range map[string][]byte{
		"oldstyle":        slices.Concat(be64(magicInit), be64(magicOldstyle), be64(4096), make([]byte, 128)),
		"newstyle":        slices.Concat(be64(magicInit), be64(magicOption), be16(0)),
		"unsupported":     slices.Concat(be64(magicInit), be64(magicOption), be16(3), optionReplyBytes(optStartTLS, repErrUnsup, nil)),
		"policy":          slices.Concat(be64(magicInit), be64(magicOption), be16(3), optionReplyBytes(optStartTLS, repErrPolicy, []byte("no"))),
		"acknowledged":    slices.Concat(be64(magicInit), be64(magicOption), be16(3), optionReplyBytes(optStartTLS, repAck, nil), make([]byte, 200)),
		"injected answer": slices.Concat(be64(magicInit), be64(magicOption), be16(3), optionReplyBytes(optStartTLS, repAck, nil), optionReplyBytes(optExtendedHeaders, repAck, nil)),
	} {
		sent, err := dialScript(t, "nbds:///", greeting)
		if err == nil {
			t.Fatalf("%s: connected", name)
		}
		if i := slices.Index([]string{"acknowledged", "injected answer"}, name); i < 0 && !errors.Is(err, errNoTLS) {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Contains(sent, optionBytes(optGo, nil)[:12]) || bytes.Contains(sent, optionBytes(optExportName, nil)[:12]) {
			t.Errorf("%s: the client went on in clear text", name)
		}
	}
}
