package identity_test

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/identity"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func authority(t testing.TB) *identity.Authority {
	t.Helper()
	a, err := identity.NewAuthority(identity.NewCluster())
	ok(t, err)
	return a
}

func node(t testing.TB, a *identity.Authority, name string) *identity.Identity {
	t.Helper()
	r, err := identity.NewRequest()
	ok(t, err)
	cert, err := a.Issue(name, r.Bytes())
	ok(t, err)
	i, err := identity.New(r, a.Certificate(), cert)
	ok(t, err)
	return i
}

// meet lets two sides speak, and returns what each of them says of the other.
func meet(server, client *tls.Config) (serverErr, clientErr error) {
	a, b := net.Pipe()
	deadline := time.Now().Add(time.Minute)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	done := make(chan error, 1)
	go func() {
		defer a.Close()
		s := tls.Server(a, server)
		_, err := s.Write([]byte("x"))
		done <- err
	}()
	// A server that refuses says so after the handshake of the client.
	_, clientErr = tls.Client(b, client).Read(make([]byte, 1))
	b.Close()
	return <-done, clientErr
}

// refused checks that one side at least has refused the other one.
func refused(t *testing.T, what, want string, server, client *tls.Config) {
	t.Helper()
	s, c := meet(server, client)
	for _, err := range []error{s, c} {
		if err != nil && strings.Contains(err.Error(), want) {
			return
		}
	}
	t.Errorf("%s: the server says %v, the client %v; want %q", what, s, c, want)
}

func TestMutual(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	a, b := node(t, ca, "a"), node(t, ca, "b")
	for _, name := range []string{"", "a"} {
		var seen []string
		note := func(p identity.Peer) bool {
			seen = append(seen, p.Node)
			return false
		}
		s, c := meet(a.Server(nil), b.Client(name, note))
		ok(t, errors.Join(s, c))
		if strings.Join(seen, " ") != "a" {
			t.Errorf("the client has asked for %v", seen)
		}
	}
	refused(t, "another node", "the node a answers, expected c", a.Server(nil), b.Client("c", nil))

	// Who has been expelled is refused by both sides.
	expelled := func(p identity.Peer) bool { return p == b.Peer() }
	refused(t, "an expelled client", "was expelled from the cluster: b", a.Server(expelled), b.Client("", nil))
	refused(t, "an expelled server", "was expelled from the cluster: b", b.Server(nil), a.Client("", expelled))

	// Nobody else gets in, whatever it calls itself.
	other := authority(t)
	stranger := node(t, other, "a")
	refused(t, "a node of another cluster", "the node a belongs to the cluster "+other.Cluster()+", expected "+ca.Cluster(), a.Server(nil), rude(stranger))
	refused(t, "another cluster", "certificate is valid for", stranger.Server(nil), a.Client("", nil))
	refused(t, "no certificate", "certificate", a.Server(nil), &tls.Config{InsecureSkipVerify: true})
	twin, err := identity.NewAuthority(ca.Cluster())
	ok(t, err)
	refused(t, "a cluster of the same name", "unknown authority", a.Server(nil), rude(node(t, twin, "b")))
	refused(t, "an old version", "protocol version", a.Server(nil), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
}

// rude is a client that looks at nothing.
func rude(i *identity.Identity) *tls.Config {
	c := i.Client("", nil)
	c.InsecureSkipVerify, c.VerifyConnection = true, nil
	return c
}

// Who has only a token knows whom it speaks to.
func TestDoor(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	a := node(t, ca, "a")
	token := ca.NewToken(time.Now().Add(time.Hour))
	s, c := meet(a.Door(), token.Door())
	ok(t, errors.Join(s, c))
	ok(t, token.Fits(ca.Certificate()))

	other := authority(t)
	refused(t, "another cluster", "another authority is shown", node(t, other, "a").Door(), token.Door())
	if err := token.Fits(other.Certificate()); err == nil {
		t.Error("the token fits another authority")
	}
	wrong := token
	wrong.Cluster = identity.NewCluster()
	refused(t, "another name", "the token is for "+wrong.Cluster, a.Door(), wrong.Door())
	// The authority can be known to anybody: the node needs its key, too.
	fake := node(t, other, "a").Door()
	fake.Certificates[0].Certificate[1] = a.Door().Certificates[0].Certificate[1]
	refused(t, "a borrowed authority", "belongs to the cluster", fake, token.Door())
	alone := a.Door()
	alone.Certificates[0].Certificate = alone.Certificates[0].Certificate[:1]
	refused(t, "no authority", "1 certificates are shown", alone, token.Door())
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	text, err := ca.PEM()
	ok(t, err)
	again, err := identity.ParseAuthority(text)
	ok(t, err)
	s, c := meet(node(t, ca, "a").Server(nil), node(t, again, "b").Client("a", nil))
	ok(t, errors.Join(s, c))

	otherText, err := authority(t).PEM()
	ok(t, err)
	a := node(t, ca, "a")
	files := identity.In(t.TempDir())
	ok(t, a.Save(files))
	nodeText, err := os.ReadFile(files.Cert)
	ok(t, err)
	cert := ca.Certificate()
	for want, text := range map[string][]byte{
		"there is no certificate":                       nil,
		"there is no private key":                       cert,
		"the private key is not that of the":            append(cert[:len(cert):len(cert)], otherText[strings.Index(string(otherText), "-----BEGIN PRIVATE"):]...),
		`certificate is that of the node "a", expected`: nodeText,
	} {
		if _, err := identity.ParseAuthority(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := identity.NewAuthority("me"); err == nil || !strings.Contains(err.Error(), "expected 32 hexadecimal digits") {
		t.Errorf("a bad name of a cluster: %v", err)
	}
	r, err := identity.NewRequest()
	ok(t, err)
	for _, name := range []string{"", "A", "a/b", strings.Repeat("a", 64)} {
		if _, err := ca.Issue(name, r.Bytes()); err == nil || !strings.Contains(err.Error(), "is not the name of a node") {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	if _, err := ca.Issue("a", r.Bytes()[1:]); err == nil || !strings.Contains(err.Error(), "the request of node a") {
		t.Errorf("a bad request: %v", err)
	}
	if _, err := ca.Revocations(1, []identity.Peer{{Node: "a", Serial: "x"}}); err == nil {
		t.Error("a bad serial number is revoked")
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	a := node(t, ca, "a")
	dir := t.TempDir()
	files := identity.In(dir)
	if _, err := identity.Load(files); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	ok(t, a.Save(files))
	again, err := identity.Load(files)
	ok(t, err)
	if again.Node() != "a" || again.Cluster() != ca.Cluster() || again.Peer() != a.Peer() {
		t.Errorf("node %s of %s", again.Node(), again.Cluster())
	}
	s, c := meet(again.Server(nil), node(t, ca, "b").Client("a", nil))
	ok(t, errors.Join(s, c))
	if err := a.Save(files); err == nil || !strings.Contains(err.Error(), "there is one already in "+dir) {
		t.Errorf("saving twice: %v", err)
	}
	info, err := os.Stat(files.Key)
	ok(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the mode of the key is %v", info.Mode())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("%d files, %v", len(left), err)
	}

	// Files that do not belong together are not taken.
	other := identity.In(t.TempDir())
	ok(t, node(t, authority(t), "a").Save(other))
	for want, mixed := range map[string]identity.Files{
		"belongs to the cluster":             {Authority: other.Authority, Cert: files.Cert, Key: files.Key},
		"the private key is not that of the": {Authority: files.Authority, Cert: files.Cert, Key: other.Key},
		"expected one of a node":             {Authority: files.Authority, Cert: files.Authority, Key: files.Key},
	} {
		if _, err := identity.Load(mixed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r, err := identity.NewRequest()
	ok(t, err)
	cert, err := os.ReadFile(files.Cert)
	ok(t, err)
	if _, err := identity.New(r, ca.Certificate(), cert); err == nil || !strings.Contains(err.Error(), "not for the key") {
		t.Errorf("the certificate of another request: %v", err)
	}
}
