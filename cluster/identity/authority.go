package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Certificates are valid for all times that clocks may show.
var (
	notBefore = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // which means never
)

// Types of PEM blocks.
const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
)

// An Authority makes the certificates of a cluster.
type Authority struct {
	cluster string
	cert    *x509.Certificate
	key     crypto.Signer
}

// NewAuthority makes the authority of a new cluster.
func NewAuthority(cluster string) (*Authority, error) {
	if err := checkCluster(cluster); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Strata cluster " + cluster},
		URIs:                  []*url.URL{uri(cluster, "")},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cluster, cert, key}, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40 // positive, and always of that length
	return new(big.Int).SetBytes(b)
}

// uri is the name of a node in certificates, or of a cluster.
func uri(cluster, node string) *url.URL {
	return &url.URL{Scheme: "strata", Host: cluster, Path: "/" + node}
}

// ServerName is the name that all nodes of a cluster have in TLS.
func ServerName(cluster string) string { return cluster + ".strata" }

// ParseAuthority returns the authority that PEM returned.
func ParseAuthority(text []byte) (*Authority, error) {
	fail := func(err error) (*Authority, error) { return nil, fmt.Errorf("identity: the authority: %w", err) }
	cert, rest, err := parseCert(text)
	if err != nil {
		return fail(err)
	}
	cluster, err := authorityOf(cert)
	if err != nil {
		return fail(err)
	}
	key, err := parseKey(rest, cert)
	if err != nil {
		return fail(err)
	}
	return &Authority{cluster, cert, key}, nil
}

// authorityOf returns the cluster of the certificate of an authority.
func authorityOf(cert *x509.Certificate) (cluster string, err error) {
	cluster, node, err := names(cert)
	if err != nil {
		return "", err
	}
	if node != "" || !cert.IsCA {
		return "", fmt.Errorf("the certificate is that of the node %q, expected one of an authority", node)
	}
	return cluster, nil
}

// parseCert returns the certificate that PEM text begins with.
func parseCert(text []byte) (cert *x509.Certificate, rest []byte, err error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != certBlock {
		return nil, nil, errors.New("there is no certificate in PEM")
	}
	if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, nil, err
	}
	return cert, rest, nil
}

// parseKey returns the key of a certificate from PEM text.
func parseKey(text []byte, cert *x509.Certificate) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, errors.New("there is no private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the private key is a %T, expected one of ECDSA", key)
	}
	if !k.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the private key is not that of the certificate")
	}
	return k, nil
}

func encodeCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: cert.Raw})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// Cluster is the name of the cluster.
func (a *Authority) Cluster() string { return a.cluster }

// PEM is the authority with its key, to be kept secret.
func (a *Authority) PEM() ([]byte, error) {
	key, err := encodeKey(a.key)
	return append(encodeCert(a.cert), key...), err
}

// Certificate is what others know the authority by, in PEM.
func (a *Authority) Certificate() []byte { return encodeCert(a.cert) }

// fingerprint is what tokens have of an authority.
func fingerprint(cert *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(cert.Raw) }

// A Request is what a node wants a certificate for. Its key stays where it is.
type Request struct {
	key crypto.Signer
	der []byte
}

// NewRequest makes a key.
func NewRequest() (*Request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return &Request{key, der}, err
}

// Bytes is the request as it is sent, for Issue.
func (r *Request) Bytes() []byte { return r.der }

// Issue makes the certificate, in PEM, of a node with the key of a request. The
// caller knows that it may have that name.
func (a *Authority) Issue(node string, request []byte) ([]byte, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(request)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("identity: the request of node %s: %w", node, err)
	}
	if _, ok := r.PublicKey.(*ecdsa.PublicKey); !ok {
		return nil, fmt.Errorf("identity: the request of node %s has a key of %v, expected ECDSA", node, r.PublicKeyAlgorithm)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: node},
		DNSNames:     []string{ServerName(a.cluster)},
		URIs:         []*url.URL{uri(a.cluster, node)},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, r.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("identity: the certificate of node %s: %w", node, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), nil
}

// Revocations returns the list of certificates that are refused, for servers that
// want it in the form of X.509. Each list has a greater number than those before.
func (a *Authority) Revocations(number uint64, expelled []Peer) ([]byte, error) {
	list := &x509.RevocationList{Number: new(big.Int).SetUint64(number), ThisUpdate: notBefore, NextUpdate: notAfter}
	for _, p := range expelled {
		n, ok := new(big.Int).SetString(p.Serial, 16)
		if !ok || n.Sign() <= 0 {
			return nil, fmt.Errorf("identity: node %s has the serial number %q, expected hexadecimal digits", p.Node, p.Serial)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: notBefore})
	}
	return x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
}

// names returns of whom a certificate is.
func names(cert *x509.Certificate) (cluster, node string, err error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "strata" || len(cert.URIs[0].Path) == 0 {
		return "", "", fmt.Errorf("the certificate of %q is not one of Strata", cert.Subject.CommonName)
	}
	cluster, node = cert.URIs[0].Host, cert.URIs[0].Path[1:]
	if err := checkCluster(cluster); err != nil {
		return "", "", err
	}
	if node != "" {
		err = checkNode(node)
	}
	return cluster, node, err
}
