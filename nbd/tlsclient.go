package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// TLSClientFiles says by which files a client knows a server and proves who
// it is. The zero value trusts the authorities that the system trusts.
type TLSClientFiles struct {
	// CA is a PEM file with the authorities that may have signed the
	// server's certificate, in place of the system's.
	CA string
	// Cert and Key are PEM files with the client's certificate and key.
	// Both are empty if the server does not ask for one.
	Cert, Key string
	// ServerName is the name that the server's certificate must be for.
	ServerName string
	// SkipVerify accepts any certificate of the server: the connection is
	// secret, but from whom is not known.
	SkipVerify bool
}

// ClientConfig reads the files.
func (f *TLSClientFiles) ClientConfig() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         f.ServerName,
		InsecureSkipVerify: f.SkipVerify,
	}
	if f.CA != "" {
		pool, err := loadCA(f.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if f.Cert == "" && f.Key == "" {
		return cfg, nil
	}
	cert, err := loadPair(f.Cert, f.Key, time.Now())
	if err != nil {
		return nil, err
	}
	cfg.Certificates = []tls.Certificate{*cert}
	return cfg, nil
}

// Names of the files in the directory of the parameter tls-certificates.
const (
	fileCA         = "ca-cert.pem"
	fileClientCert = "client-cert.pem"
	fileClientKey  = "client-key.pem"
)

// tlsConfig is what a connection uses. Files are read anew for each, so that
// a client that runs for years may have its certificate renewed.
func (t *target) tlsConfig() (*tls.Config, error) {
	name := t.uri.TLSHostname
	if name == "" && t.uri.Transport == TCP {
		name = t.uri.Host
	}
	if name == "" {
		name = "localhost"
	}
	if t.TLSConfig != nil {
		cfg := t.TLSConfig.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName = name
		}
		cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
		return cfg, nil
	}
	files := TLSClientFiles{ServerName: name, SkipVerify: t.uri.TLSSkipVerify}
	if dir := t.uri.TLSCertificates; dir != "" {
		files.CA = filepath.Join(dir, fileCA)
		cert, key := filepath.Join(dir, fileClientCert), filepath.Join(dir, fileClientKey)
		if _, err := os.Stat(cert); err == nil {
			files.Cert, files.Key = cert, key
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return files.ClientConfig()
}

// loadCA reads the authorities in a PEM file.
func loadCA(path string) (*x509.CertPool, error) {
	text, err := readPEM(path)
	if err != nil {
		return nil, fmt.Errorf("CA certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA certificates: %s holds no certificate in PEM form", path)
	}
	return pool, nil
}

// loadPair reads a certificate with its key and checks that they belong
// together and are valid now.
func loadPair(cert, key string, now time.Time) (*tls.Certificate, error) {
	if cert == "" || key == "" {
		return nil, errors.New("a certificate needs its key, and a key its certificate")
	}
	certPEM, err := readPEM(cert)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	keyPEM, err := readPEM(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if block, _ := pem.Decode(certPEM); block == nil {
		return nil, fmt.Errorf("certificate: %s holds no certificate in PEM form", cert)
	}
	if block, _ := pem.Decode(keyPEM); block == nil {
		return nil, fmt.Errorf("key: %s holds no key in PEM form", key)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	leaf := pair.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("certificate %s expired on %s", cert, leaf.NotAfter.Format(time.DateTime))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("certificate %s is not valid before %s", cert, leaf.NotBefore.Format(time.DateTime))
	}
	return &pair, nil
}

// maxPEM is the longest file with certificates or a key; that of all
// authorities that browsers trust has 200 KiB.
const maxPEM = 4 << 20

// readPEM reads a file of certificates or keys. It does not wait for a pipe
// that nobody writes to, nor read for ever from a device.
func readPEM(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxPEM)
	}
	return text, err
}
