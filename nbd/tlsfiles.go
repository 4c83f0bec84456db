package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFiles says by which files a server proves who it is and knows its
// clients. They may be replaced at any time: each handshake looks whether
// they have changed. As long as the new ones cannot be used, because only one
// of them has been written yet for example, the old ones stay in force.
type TLSFiles struct {
	// Cert is a PEM file with the server's certificate, followed by the
	// intermediate ones. Key is a PEM file with its key.
	Cert, Key string
	// ClientCA, if not empty, is a PEM file with authorities. Clients must
	// then show a certificate for client authentication that one of them
	// has signed.
	ClientCA string
	// Report, if not nil, is told once of each reason why changed files
	// are not used, and with nil when they are again.
	Report func(error)
}

// ServerConfig reads the files and returns a configuration for TLS 1.2 and
// later. It must be used as it is: clients are verified by its
// VerifyConnection, because some TLS libraries (GnuTLS 3.7 with TLS 1.3)
// keep their certificate back when they are sent a list of authorities, as
// ClientCAs would do.
func (f TLSFiles) ServerConfig() (*tls.Config, error) {
	r := &reloader{files: f}
	first, err := r.load(r.stamp())
	if err != nil {
		return nil, err
	}
	r.now = first
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return r.current().pair, nil
		},
	}
	if f.ClientCA != "" {
		cfg.ClientAuth = tls.RequireAnyClientCert
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			return verifyClient(r.current().clients, &cs, time.Now())
		}
	}
	return cfg, nil
}

// tlsIdentity is the content of the files at one time.
type tlsIdentity struct {
	pair    *tls.Certificate
	clients *x509.CertPool
	stamp   [3]stamp
}

// A stamp tells versions of a file apart without reading it.
type stamp struct {
	info    os.FileInfo
	size    int64
	changed time.Time
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return os.SameFile(s.info, o.info) && s.size == o.size && s.changed.Equal(o.changed)
}

// reloader keeps the identity of a server up to date.
type reloader struct {
	files TLSFiles

	mu     sync.Mutex
	now    *tlsIdentity
	failed string // why the files on disk are not used
}

func (r *reloader) stamp() (s [3]stamp) {
	for i, path := range []string{r.files.Cert, r.files.Key, r.files.ClientCA} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{info, info.Size(), info.ModTime()}
		}
	}
	return s
}

func (r *reloader) load(at [3]stamp) (*tlsIdentity, error) {
	pair, err := loadPair(r.files.Cert, r.files.Key, time.Now())
	if err != nil {
		return nil, err
	}
	id := &tlsIdentity{pair: pair, stamp: at}
	if r.files.ClientCA != "" {
		if id.clients, err = loadCA(r.files.ClientCA); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// current returns the identity to use for a handshake.
func (r *reloader) current() *tlsIdentity {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.stamp()
	fresh := true
	for i := range at {
		fresh = fresh && at[i].same(r.now.stamp[i])
	}
	if fresh && r.failed == "" {
		return r.now
	}
	id, err := r.load(at)
	if err != nil {
		r.report(err, err.Error())
		return r.now
	}
	r.now = id
	r.report(nil, "")
	return id
}

// report tells of a change of the state.
func (r *reloader) report(err error, text string) {
	if text != r.failed && r.files.Report != nil {
		r.files.Report(err)
	}
	r.failed = text
}

// verifyClient does what package crypto/tls does for ClientCAs, on resumed
// sessions too.
func verifyClient(roots *x509.CertPool, cs *tls.ConnectionState, now time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("nbd: the client has shown no certificate")
	}
	opts := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("nbd: certificate of client %q: %w", leaf.Subject, err)
	}
	return nil
}

// CertificateNames returns what a certificate says its owner is called, each
// with its kind so that names of different kinds cannot be mistaken for each
// other: the subject as "dn:CN=alice,O=Example", its common name as
// "cn:alice", and the alternative names as "dns:...", "email:...", "ip:..."
// and "uri:...". Only names of a verified certificate mean anything.
func CertificateNames(cert *x509.Certificate) []string {
	names := []string{"dn:" + cert.Subject.String()}
	if cert.Subject.CommonName != "" {
		names = append(names, "cn:"+cert.Subject.CommonName)
	}
	for _, n := range cert.DNSNames {
		names = append(names, "dns:"+n)
	}
	for _, n := range cert.EmailAddresses {
		names = append(names, "email:"+n)
	}
	for _, n := range cert.IPAddresses {
		names = append(names, "ip:"+n.String())
	}
	for _, n := range cert.URIs {
		names = append(names, "uri:"+n.String())
	}
	return names
}
