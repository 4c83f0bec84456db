package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// A lab is a certificate authority.
type lab struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, pool: x509.NewCertPool()}
	l.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, l.key.Public(), l.key)
	if err == nil {
		l.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.pool.AddCert(l.cert)
	return l
}

// config is that of a node.
func (l *lab) config(node string) *tls.Config {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: node}, DNSNames: []string{"node.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, l.cert, key.Public(), l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      l.pool, ClientCAs: l.pool, ServerName: "node.test",
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}

// byName is a Verify that goes by the name in the certificate.
func byName(state *tls.ConnectionState, peer Identity) error {
	if name := state.PeerCertificates[0].Subject.CommonName; name != peer.Node {
		return fmt.Errorf("certificate is that of %q, not of %q", name, peer.Node)
	}
	return nil
}

func overTLSLoopback(t testing.TB) (*Server, Options) {
	l := newLab(t)
	s := newServer(func(s *Server) { s.TLS, s.Verify = l.config(partner.Node), byName })
	return s, over(t, s, func(o *Options) { o.TLS, o.Verify = l.config(self.Node), byName })
}
