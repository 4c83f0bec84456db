package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
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

func overTLSLoopback(t testing.TB, more ...func(*Server)) (*Server, Options) {
	l := newLab(t)
	s := newServer(append(more, func(s *Server) { s.TLS, s.Verify = l.config(partner.Node), byName })...)
	return s, over(t, s, func(o *Options) { o.TLS, o.Verify = l.config(self.Node), byName })
}

// A talker sends a record without data behind each of those with data.
type talker struct {
	net.Conn
	on atomic.Bool
}

func (c *talker) Write(p []byte) (int, error) {
	if !c.on.Load() {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(append(bytes.Clone(p), 20, 3, 3, 0, 1, 1)) // change_cipher_spec
	return min(n, len(p)), err
}

// Records without data do not keep replies waiting for the next frame, on either side.
func TestRecordsWithoutData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		s := newServer(func(s *Server) { s.TLS, s.Verify = l.config(partner.Node), byName })
		a, b := net.Pipe()
		client, server := &talker{Conn: a}, &talker{Conn: b}
		go s.ServeConn(server)
		c := connect(t, Options{
			Self: self, Node: partner.Node, Conns: 1, TLS: l.config(self.Node), Verify: byName,
			Dial: func(context.Context) (net.Conn, error) { return client, nil },
		})
		client.on.Store(true)
		server.on.Store(true)
		began := time.Now()
		for range 5 {
			// What is begun in Answered leaves at the end of the burst.
			var burst block.Burst
			p, ok := c.BeginNow(t.Context(), &Call{Op: opInline}, &burst)
			if !ok {
				t.Fatal("a request has to wait")
			}
			second := make(told, 1)
			p.Then(answered(func(_ Reply, err error, b *block.Burst) {
				p, ok := c.BeginNow(t.Context(), &Call{Op: opInline}, b)
				if err != nil || !ok {
					second <- toldReply{err: fmt.Errorf("%w, and the next one begins: %v", err, ok)}
					return
				}
				p.Then(second, b)
			}), &burst)
			burst.End()
			if got := <-second; got.err != nil {
				t.Fatal(got.err)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("replies have waited for %v", waited)
		}
		c.Close()
		s.Close()
		synctest.Wait()
	})
}

type answered func(Reply, error, *block.Burst)

func (f answered) Answered(r Reply, err error, b *block.Burst) { f(r, err, b) }
