package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/nbd"
)

func TestRules(t *testing.T) {
	t.Parallel()
	spiffe, err := url.Parse("spiffe://example/backup")
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		Subject:        pkix.Name{CommonName: "alice", Organization: []string{"Example"}},
		DNSNames:       []string{"Host.example"},
		EmailAddresses: []string{"a@example"},
		URIs:           []*url.URL{spiffe},
		IPAddresses:    []net.IP{net.ParseIP("10.0.0.7")},
	}
	peers := map[string]*nbd.Peer{
		"v4":     tcpPeer("10.1.2.3:4000"),
		"mapped": {Addr: &net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3")}},
		"v6":     tcpPeer("[fd00::1]:4000"),
		"zone":   {Addr: &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}},
		"unix":   {Addr: &net.UnixAddr{Net: "unix"}, Cred: &nbd.Cred{UID: 1000, PID: 5}},
		"nocred": {Addr: &net.UnixAddr{Net: "unix"}},
		"tls":    {Addr: &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}},
		"nocert": {Addr: &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, TLS: &tls.ConnectionState{}},
		"none":   {},
	}
	everyone := "mapped nocert nocred none tls unix v4 v6 zone"
	tests := []struct{ rules, admitted string }{
		{"any", everyone},
		{"10.1.2.3", "mapped v4"},
		{"10.0.0.0/8", "mapped v4"},
		{"::ffff:10.1.2.0/120", "mapped v4"},
		{"0.0.0.0/0", "mapped nocert tls v4"},
		{"::/0", "v6 zone"},
		{"fe80::/10", "zone"},
		{"fd00::1", "v6"},
		{"uid:1000", "unix"},
		{"uid:0", ""},
		{"cn:alice", "tls"},
		{"cn:alice2", ""},
		{"subject:CN=alice,O=Example", "tls"},
		{"subject:CN=alice", ""},
		{"san:dns:hOst.Example", "tls"},
		{"san:dns:alice", ""},
		{"san:uri:spiffe://example/backup", "tls"},
		{"san:email:a@example", "tls"},
		{"san:ip:10.0.0.7", "tls"},
		{"san:ip:10.0.0.8", ""},
		{"cn:dns:Host.example", ""},
		{"uid:1000 fd00::/8 cn:alice", "tls unix v6"},
	}
	for _, tt := range tests {
		rules, err := parseRules(strings.Fields(tt.rules))
		if err != nil {
			t.Errorf("%s: %v", tt.rules, err)
			continue
		}
		for name, p := range peers {
			want := strings.Contains(" "+tt.admitted+" ", " "+name+" ")
			if got := rules.Admit(p); got != want {
				t.Errorf("%s admits %s: %v, want %v", tt.rules, name, got, want)
			}
		}
	}
	if !Rules(nil).Admit(peers["none"]) || (Rules{}).Admit(peers["unix"]) {
		t.Error("no rules must admit everyone, an empty list nobody")
	}
}

// TestResolve asks for exports as different clients.
func TestResolve(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, loader := newLab()
	s := &Set{}
	mustApply(t, s, mustLoad(t, loader, `
tls(mode="optional", cert="c", key="k", client_ca="a")
export("open", mem(1), description="for all", read_only=True)
export("near", mem(1), allow=["10.0.0.0/8"])
export("secret", mem(1), require_tls=True)
export("two", mem(1), max_connections=2)
export("near secret", mem(1), require_tls=True, allow=["10.0.0.0/8"])
export("named", mem(1), require_tls=True, allow=["10.0.0.0/8", "cn:alice"])
`))
	near, far, other := tcpPeer("10.0.0.1:1"), tcpPeer("192.0.2.1:1"), tcpPeer("192.0.2.1:1")
	far.TLS = &tls.ConnectionState{}
	for _, tt := range []struct {
		name string
		peer *nbd.Peer
		want error
	}{
		{"open", far, nil}, {"near", near, nil}, {"near", far, nbd.ErrNotFound},
		{"secret", near, nbd.ErrTLSRequired}, {"secret", far, nil},
		{"", near, nbd.ErrNotFound}, {"Open", near, nbd.ErrNotFound},
		// That TLS would help is told only to whom it may help.
		{"near secret", near, nbd.ErrTLSRequired}, {"near secret", other, nbd.ErrNotFound},
		{"named", other, nbd.ErrTLSRequired}, {"named", far, nbd.ErrNotFound},
	} {
		for _, probe := range []bool{true, false} {
			x, err := s.Resolve(ctx, &nbd.ExportRequest{Name: tt.name, Peer: tt.peer, Probe: probe})
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s, probe %v: %v, want %v", tt.name, probe, err, tt.want)
			}
			if err == nil && x.Release != nil {
				x.Release()
			}
		}
	}
	for _, tt := range []struct {
		peer *nbd.Peer
		want string
	}{{near, "open near secret two near secret named"}, {far, "open secret two"}} {
		list, err := s.List(ctx, tt.peer)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range list {
			got = append(got, x.Name)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("list %v, want %s", got, tt.want)
		}
		if x := list[0]; !x.ReadOnly || x.Description != "for all" {
			t.Errorf("%+v", x)
		}
	}
	var held []*nbd.Export
	for range 2 {
		x, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "two", Peer: near})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, x)
	}
	_, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "two", Peer: near})
	if err == nil || err.Error() != `export "two" has 2 connections, and no more are allowed at one time` {
		t.Errorf("a third connection: %v", err)
	}
	if _, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "two", Peer: near, Probe: true}); err != nil {
		t.Errorf("a probe of a full export: %v", err)
	}
	held[0].Release()
	x, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "two", Peer: near})
	if err != nil {
		t.Fatalf("after one has left: %v", err)
	}
	if st := s.Status(); st[3].Connections != 2 || st[0].Info.Size != 4096 {
		t.Errorf("status %+v", st)
	}
	x.Release()
	held[1].Release()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestServed runs a server on a Set: rules about certificates decide, a reload
// keeps the connection of an export that stays, and ends that of one that
// changes.
func TestServed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	if _, err := cert.Make(dir, cert.Options{Clients: []string{"alice", "bob"}}); err != nil {
		t.Fatal(err)
	}
	loader := &Loader{}
	load := func(size string) *Config {
		return mustLoad(t, loader, `
tls(cert="c", key="k", client_ca="a")
export("stays", mem("1M"), allow=["cn:alice"])
export("changes", mem("`+size+`"), allow=["cn:alice", "cn:bob"])
`)
	}
	s := &Set{}
	mustApply(t, s, load("1M"))
	tlsConfig, err := nbd.TLSFiles{
		Cert: filepath.Join(dir, "server-cert.pem"), Key: filepath.Join(dir, "server-key.pem"),
		ClientCA: filepath.Join(dir, "ca-cert.pem"),
	}.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	srv := &nbd.Server{Exports: s, TLS: nbd.TLSRequired, TLSConfig: tlsConfig}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()

	dial := func(name, export string) (*nbd.Client, error) {
		files := nbd.TLSClientFiles{CA: filepath.Join(dir, "ca-cert.pem"), ServerName: "localhost"}
		base := name
		if name == "alice" {
			base = "client" // the first one's files
		}
		files.Cert, files.Key = filepath.Join(dir, base+"-cert.pem"), filepath.Join(dir, base+"-key.pem")
		cfg, err := files.ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		d := nbd.Dialer{TLSConfig: cfg}
		return d.Dial(ctx, "nbds+unix:///"+export+"?socket="+filepath.Join(dir, "s"))
	}
	if _, err := dial("bob", "stays"); err == nil || !strings.Contains(err.Error(), `the server has no export "stays"`) {
		t.Errorf("bob at an export that is alice's: %v", err)
	}
	stays, err := dial("alice", "stays")
	if err != nil {
		t.Fatal(err)
	}
	changes, err := dial("bob", "changes")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uint64]bool{}
	for _, c := range srv.Conns() {
		if c.Export == "stays" {
			ids[c.ID] = true
		}
	}
	retired := mustApply(t, s, load("2M"))
	if names(retired) != "changes" {
		t.Fatalf("retired %s", names(retired))
	}
	if err := retired[0].Drain(ctx, srv); err != nil {
		t.Error(err)
	}
	if err := stays.WriteAt(ctx, make([]byte, 512), 0, 0); err != nil {
		t.Errorf("the connection that stays: %v", err)
	}
	for _, c := range srv.Conns() {
		if c.Export == "stays" && !ids[c.ID] {
			t.Error("the connection that should stay is another one")
		}
	}
	if err := errors.Join(stays.Close(), changes.Close()); err != nil && !strings.Contains(err.Error(), "clos") {
		t.Logf("closing clients: %v", err)
	}
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, nbd.ErrServerClosed) {
		t.Error(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}
