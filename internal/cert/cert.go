// Package cert makes the certificates of a lab: an authority, a server and a
// client, in the files in which libnbd and QEMU look for them.
package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options of Make.
type Options struct {
	// Hosts are the names and IP addresses of the server besides those of
	// the loopback.
	Hosts []string
	// Clients are the names of clients, "client" if empty. The first one's
	// files are called client-cert.pem and client-key.pem, the others'
	// after their names.
	Clients []string
	// Valid is how long the certificates are valid; 0 is ten years.
	Valid time.Duration
	// Now is the time of issue; zero is the present.
	Now time.Time
	// Force overwrites files that exist, and makes a new authority.
	Force bool
}

// A File that was made.
type File struct {
	Name string
	// Use is for people.
	Use string
}

// Make writes certificates and keys into dir, which it creates if it is not
// there. Unless Options.Force is given it overwrites nothing: if one of the
// files exists, none is made.
func Make(dir string, o Options) ([]File, error) {
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	made := make([]File, 0, len(files))
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.Name)); !o.Force && err == nil {
			return nil, fmt.Errorf("%s exists; choose another directory, or --force to replace it", filepath.Join(dir, f.Name))
		}
	}
	for _, f := range files {
		if err := write(filepath.Join(dir, f.Name), f.pem, f.mode, o.Force); err != nil {
			return nil, err
		}
		made = append(made, f.File)
	}
	return made, nil
}

// write makes a file whose mode is right from the start.
func write(path string, p []byte, mode fs.FileMode, force bool) error {
	if force {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	return errors.Join(err, f.Close())
}

// A lab is an authority that has issued nothing yet.
type lab struct {
	o    Options
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// An output is a file and its content.
type output struct {
	File
	pem  []byte
	mode fs.FileMode
}

func newLab(o Options) (*lab, error) {
	if o.Valid == 0 {
		o.Valid = 10 * 365 * 24 * time.Hour
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if len(o.Clients) == 0 {
		o.Clients = []string{"client"}
	}
	if o.Valid < 0 {
		return nil, errors.New("the certificates would never be valid")
	}
	seen := make(map[string]bool)
	for i, name := range o.Clients {
		switch {
		case name == "" || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, "."):
			return nil, fmt.Errorf("client name %q cannot be part of a file name", name)
		case seen[name] || i > 0 && (name == "ca" || name == "server" || name == "client"):
			return nil, fmt.Errorf("client name %q would be used for two files", name)
		}
		seen[name] = true
	}
	for _, host := range o.Hosts {
		if host == "" || strings.ContainsAny(host, " /\x00") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return nil, fmt.Errorf("host %q is neither a name nor an IP address", host)
		}
	}
	return &lab{o: o}, nil
}

func (l *lab) files() ([]output, error) {
	authority, err := l.authority()
	if err != nil {
		return nil, err
	}
	server, err := l.issue("server", "server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: append(l.o.Hosts, "localhost")[0]},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, append([]string{"localhost", "127.0.0.1", "::1"}, l.o.Hosts...))
	if err != nil {
		return nil, err
	}
	files := append(authority, server...)
	for i, name := range l.o.Clients {
		prefix := name
		if i == 0 {
			prefix = "client"
		}
		client, err := l.issue(prefix, "client "+name, &x509.Certificate{
			Subject:     pkix.Name{CommonName: name},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, nil)
		if err != nil {
			return nil, err
		}
		files = append(files, client...)
	}
	return files, nil
}

// authority makes the certificate that signs the others.
func (l *lab) authority() ([]output, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Strata lab CA " + l.o.Now.UTC().Format("2006-01-02 15:04")},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	var err error
	if l.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	der, err := l.sign(template, template, &l.key.PublicKey)
	if err != nil {
		return nil, err
	}
	if l.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return pair("ca", "authority", der, l.key)
}

// issue makes a certificate for the hosts. KeyEncipherment is what GnuTLS
// and older QEMU want to see; it does no harm to others.
func (l *lab) issue(prefix, use string, template *x509.Certificate, hosts []string) ([]output, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := l.sign(template, l.cert, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	return pair(prefix, use, der, key)
}

func (l *lab) sign(template, parent *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// A little earlier, for machines whose clocks are behind.
	template.NotBefore, template.NotAfter = l.o.Now.Add(-time.Hour), l.o.Now.Add(l.o.Valid)
	return x509.CreateCertificate(rand.Reader, template, parent, public, l.key)
}

func pair(prefix, use string, der []byte, key *ecdsa.PrivateKey) ([]output, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return []output{
		{File{prefix + "-cert.pem", "certificate of the " + use}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644},
		{File{prefix + "-key.pem", "secret key of the " + use}, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600},
	}, nil
}
