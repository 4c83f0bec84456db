package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// A Peer is a node by its certificate.
type Peer struct {
	// Node is its name, Serial the number of its certificate in hexadecimal digits.
	Node, Serial string
}

func peer(cert *x509.Certificate, node string) Peer {
	return Peer{node, cert.SerialNumber.Text(16)}
}

// ErrExpelled: the node does not belong to the cluster any more.
var ErrExpelled = errors.New("the node was expelled from the cluster")

// anyTime is one at which all certificates are valid: clocks that are wrong shall not
// keep nodes from each other.
var anyTime = notBefore.AddDate(1, 0, 0)

// verify checks that a certificate is one of a node, of that authority.
func verify(authority, cert *x509.Certificate) (Peer, error) {
	cluster, err := authorityOf(authority)
	if err != nil {
		return Peer{}, err
	}
	theirs, node, err := names(cert)
	switch {
	case err != nil:
		return Peer{}, err
	case theirs != cluster:
		return Peer{}, fmt.Errorf("the node %s belongs to the cluster %s, expected %s", node, theirs, cluster)
	case node == "":
		return Peer{}, errors.New("the certificate is that of an authority, expected one of a node")
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: anyTime, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return Peer{}, fmt.Errorf("the certificate of node %s: %w", node, err)
	}
	return peer(cert, node), nil
}

// Server returns how to accept connections of other nodes. Of each handshake expelled
// is asked whether that node is refused; nil refuses none. It may be called at any
// time, and again for the same peer.
func (i *Identity) Server(expelled func(Peer) bool) *tls.Config {
	c := i.config(expelled, "")
	// It is verified below. If the authority was named, nodes of other clusters would
	// show nothing, and nobody would learn what is wrong.
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// Client returns how to connect to a node, or to any node if node is empty.
func (i *Identity) Client(node string, expelled func(Peer) bool) *tls.Config {
	c := i.config(expelled, node)
	c.ServerName, c.RootCAs = ServerName(i.cluster), i.roots()
	return c
}

// Door returns how to accept nodes that have no certificate yet, but a token. What
// they send is to be taken for that of anybody.
func (i *Identity) Door() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.chain()}}
}

func (i *Identity) config(expelled func(Peer) bool, node string) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{i.chain()},
		Time:         func() time.Time { return anyTime },
		// They would never expire, by that clock, and connections live long.
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			p, err := i.Check(cs)
			switch {
			case err != nil:
				return err
			case expelled != nil && expelled(p):
				return fmt.Errorf("identity: %w: %s", ErrExpelled, p.Node)
			case node != "" && node != p.Node:
				return fmt.Errorf("identity: the node %s answers, expected %s", p.Node, node)
			}
			return nil
		},
	}
}

// chain is what is shown. The authority is part of it for those who only know its
// fingerprint.
func (i *Identity) chain() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw, i.authority.Raw}, PrivateKey: i.key, Leaf: i.cert}
}

func (i *Identity) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.authority)
	return pool
}

// Check returns who is on the other side of a connection.
func (i *Identity) Check(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, errors.New("identity: the other side has no certificate")
	}
	p, err := verify(i.authority, cs.PeerCertificates[0])
	if err != nil {
		return Peer{}, fmt.Errorf("identity: %w", err)
	}
	return p, nil
}

// Door returns how to connect to a node of the cluster of the token, which is to be
// done before the secret is told.
func (t Token) Door() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         ServerName(t.Cluster),
		InsecureSkipVerify: true, // it is verified here, with what the token says
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := t.verify(cs.PeerCertificates); err != nil {
				return fmt.Errorf("identity: this is not the cluster of the token: %w", err)
			}
			return nil
		},
	}
}

func (t Token) verify(chain []*x509.Certificate) error {
	if len(chain) != 2 {
		return fmt.Errorf("%d certificates are shown, expected that of a node and that of its authority, as where nodes join", len(chain))
	}
	if fingerprint(chain[1]) != t.Authority {
		return errors.New("another authority is shown than the token names")
	}
	cluster, err := authorityOf(chain[1])
	if err == nil && cluster != t.Cluster {
		err = fmt.Errorf("it is the cluster %s, the token is for %s", cluster, t.Cluster)
	}
	if err == nil {
		_, err = verify(chain[1], chain[0])
	}
	return err
}

// Fits returns an error if authority, in PEM, is not the one that the token names.
func (t Token) Fits(authority []byte) error {
	cert, _, err := parseCert(authority)
	if err == nil && fingerprint(cert) != t.Authority {
		err = errors.New("it is another one than the token names")
	}
	if err != nil {
		return fmt.Errorf("identity: the authority: %w", err)
	}
	return nil
}
