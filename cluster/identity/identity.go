package identity

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An Identity is what one node shows to others.
type Identity struct {
	cluster, node string
	authority     *x509.Certificate
	cert          *x509.Certificate
	key           crypto.Signer
}

// New makes the identity of a node whose request was granted: authority and cert are
// what Certificate and Issue returned.
func New(r *Request, authority, cert []byte) (*Identity, error) {
	i, err := assemble(authority, cert)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if k, ok := r.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(i.cert.PublicKey) {
		return nil, fmt.Errorf("identity: the certificate of node %s is not for the key of the request", i.node)
	}
	i.key = r.key
	return i, nil
}

// assemble checks that the certificates fit each other.
func assemble(authority, cert []byte) (*Identity, error) {
	i := &Identity{}
	var err error
	if i.authority, _, err = parseCert(authority); err != nil {
		return nil, fmt.Errorf("the certificate of the authority: %w", err)
	}
	if i.cert, _, err = parseCert(cert); err != nil {
		return nil, fmt.Errorf("the certificate of the node: %w", err)
	}
	if i.cluster, err = authorityOf(i.authority); err != nil {
		return nil, err
	}
	p, err := verify(i.authority, i.cert)
	if err != nil {
		return nil, err
	}
	i.node = p.Node
	return i, nil
}

// Cluster and Node are the names in it.
func (i *Identity) Cluster() string { return i.cluster }

// Node is the name of the node.
func (i *Identity) Node() string { return i.node }

// Peer is what others see of it.
func (i *Identity) Peer() Peer { return peer(i.cert, i.node) }

// Files are where an identity is kept.
type Files struct {
	// Authority, Cert and Key are paths of files in PEM.
	Authority, Cert, Key string
}

// In are the files in a directory.
func In(dir string) Files {
	return Files{filepath.Join(dir, "authority.pem"), filepath.Join(dir, "node.pem"), filepath.Join(dir, "node-key.pem")}
}

// Save writes the files, the last of them when the others are durable. It replaces
// nothing: a node has one identity.
func (i *Identity) Save(f Files) error {
	key, err := encodeKey(i.key)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(f.Cert); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("identity: there is one already in %s", filepath.Dir(f.Cert))
	}
	for _, file := range []struct {
		path string
		text []byte
	}{{f.Key, key}, {f.Authority, encodeCert(i.authority)}, {f.Cert, encodeCert(i.cert)}} {
		if err := write(file.path, file.text); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
	}
	return nil
}

// write makes or replaces a file as a whole.
func write(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // which only its owner can read
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load reads the files. The error is fs.ErrNotExist if there is no identity yet.
func Load(f Files) (*Identity, error) {
	var texts [3][]byte
	for n, path := range []string{f.Cert, f.Authority, f.Key} {
		var err error
		if texts[n], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
	}
	i, err := assemble(texts[1], texts[0])
	if err == nil {
		i.key, err = parseKey(texts[2], i.cert)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: the files in %s: %w", filepath.Dir(f.Cert), err)
	}
	return i, nil
}
