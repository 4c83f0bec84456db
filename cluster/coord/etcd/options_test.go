package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/internal/cert"
)

func TestServerOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]ServerOptions{
		"the member has no name":                        {},
		"which may not have a comma or =":               {Name: "a=b", Dir: "x"},
		"member a has no directory":                     {Name: "a"},
		"member a is not among the members b, c":        {Name: "a", Dir: "x", Members: map[string][]string{"c": {"http://c:1"}, "b": {"http://b:1"}}},
		"the members are not named":                     {Name: "a", Dir: "x", Join: true},
		"negative times or sizes for member a":          {Name: "a", Dir: "x", Election: -1},
		`has the scheme "ftp", expected https, http or`: {Name: "a", Dir: "x", PeerURLs: []string{"ftp://a:1"}},
		"client URLs of member a":                       {Name: "a", Dir: "x", ClientURLs: []string{"http://[::1"}},
		"at most 107 are possible":                      {Name: "a", Dir: strings.Repeat("x", 100)},
	} {
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	cfg, err := ServerOptions{Name: "a", Dir: "x"}.config()
	ok(t, err)
	if cfg.TickMs != 500 || cfg.ElectionMs != 5000 || cfg.QuotaBackendBytes != 2<<30 || cfg.AutoCompactionRetention != "1h0m0s" {
		t.Errorf("defaults: %d ms, %d ms, %d bytes, %s", cfg.TickMs, cfg.ElectionMs, cfg.QuotaBackendBytes, cfg.AutoCompactionRetention)
	}
	if len(cfg.ListenPeerUrls) != 0 || cfg.IsNewCluster() == false {
		t.Errorf("a member alone listens to peers on %v, new: %v", cfg.ListenPeerUrls, cfg.IsNewCluster())
	}
}

func TestDialOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"no endpoints": {},
		"prefix":       {Endpoints: []string{"http://a:1"}, Prefix: "a b"},
		"some are not": {Endpoints: []string{"https://a:1", "unix:///b"}},
	} {
		if _, err := Dial(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// A member that cannot start says so, and leaves nothing behind.
func TestStartFails(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	ok(t, os.WriteFile(filepath.Join(dir, "etcd"), nil, 0o600))
	if _, err := Start(t.Context(), quick("one", dir)); err == nil || !strings.Contains(err.Error(), "starting member one") {
		t.Errorf("a file where the data should be: %v", err)
	}
	// Two cannot have the same directory, and the first does not feel the second.
	used := quick("one", tempDir(t))
	first := start(t, used)
	if _, err := Start(t.Context(), used); err == nil || !strings.Contains(err.Error(), "in use by another member") {
		t.Errorf("a directory that is in use: %v", err)
	}
	put(t, dial(t, Options{Endpoints: []string{first.Endpoint()}}), "k", nil)

	// The second of three members has nobody to agree with.
	o := quick("a", tempDir(t))
	o.PeerURLs = []string{freeURL(t, "http")}
	o.Members = map[string][]string{"a": o.PeerURLs, "b": {freeURL(t, "http")}, "c": {freeURL(t, "http")}}
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, why)
	defer cancel()
	if _, err := Start(ctx, o); !errors.Is(err, why) {
		t.Errorf("a member without others: %v, want the cause", err)
	}
}

// Clients on the network need a certificate of the same authority.
func TestTLS(t *testing.T) {
	t.Parallel()
	certs := tempDir(t)
	_, err := cert.Make(certs, cert.Options{Force: true})
	ok(t, err)
	file := func(name string) string { return filepath.Join(certs, name) }
	url := freeURL(t, "https")
	o := quick("one", tempDir(t))
	o.ClientURLs = []string{url}
	o.ClientTLS = TLSFiles{Cert: file("server-cert.pem"), Key: file("server-key.pem"), CA: file("ca-cert.pem")}
	server := start(t, o)

	pem, err := os.ReadFile(o.ClientTLS.CA)
	ok(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(file("client-cert.pem"), file("client-key.pem"))
	ok(t, err)
	known := dial(t, Options{Endpoints: []string{url}, TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}})
	put(t, known, "k", nil)
	// Who has the directory needs none.
	local := dial(t, Options{Endpoints: []string{server.Endpoint()}, TLS: &tls.Config{RootCAs: pool}})
	put(t, local, "k", nil)
	members, err := local.client.MemberList(t.Context())
	ok(t, err)
	if urls := members.Members[0].ClientURLs; len(urls) != 1 || urls[0] != url {
		t.Errorf("the member tells others that it is at %v, want %s", urls, url)
	}
	unknown := dial(t, Options{Endpoints: []string{url}, TLS: &tls.Config{RootCAs: pool}, Timeout: time.Second})
	if _, _, err := unknown.Get(t.Context(), "k"); !errors.Is(err, coord.ErrUnavailable) {
		t.Errorf("a client without a certificate: %v", err)
	}
}

// identify makes an identity and its files for a node.
func identify(t testing.TB, ca *identity.Authority, node string) (*identity.Identity, identity.Files) {
	t.Helper()
	r, err := identity.NewRequest()
	ok(t, err)
	cert, err := ca.Issue(node, r.Bytes())
	ok(t, err)
	i, err := identity.New(r, ca.Certificate(), cert)
	ok(t, err)
	files := identity.In(t.TempDir())
	ok(t, i.Save(files))
	return i, files
}

// Members and clients know each other by the certificates of the cluster, which name
// no hosts, and refuse those that were expelled.
func TestIdentity(t *testing.T) {
	t.Parallel()
	ca, err := identity.NewAuthority(identity.NewCluster())
	ok(t, err)
	good, _ := identify(t, ca, "good")
	bad, badFiles := identify(t, ca, "bad")
	list, err := ca.Revocations(1, []identity.Peer{bad.Peer()})
	ok(t, err)
	revoked := filepath.Join(t.TempDir(), "revoked")
	ok(t, os.WriteFile(revoked, list, 0o600))

	members := map[string][]string{"a": {freeURL(t, "https")}, "b": {freeURL(t, "https")}}
	client := freeURL(t, "https")
	startAll(t, members, func(o *ServerOptions) {
		_, files := identify(t, ca, o.Name)
		o.PeerTLS = TLSFiles{files.Cert, files.Key, files.Authority, identity.ServerName(ca.Cluster()), revoked}
		if o.ClientTLS = o.PeerTLS; o.Name == "a" {
			o.ClientURLs = []string{client}
		}
	})
	put(t, dial(t, Options{Endpoints: []string{client}, TLS: good.Client("", nil)}), "k", nil)
	c := dial(t, Options{Endpoints: []string{client}, TLS: bad.Client("", nil), Timeout: 500 * time.Millisecond})
	if _, _, err := c.Get(t.Context(), "k"); !errors.Is(err, coord.ErrUnavailable) {
		t.Errorf("a client that was expelled: %v", err)
	}
	// The same at the door for members: nothing is answered.
	pair, err := tls.LoadX509KeyPair(badFiles.Cert, badFiles.Key)
	ok(t, err)
	for who, cert := range map[string]tls.Certificate{"good": good.Client("", nil).Certificates[0], "bad": pair} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(members["a"][0], "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		ok(t, err)
		_, err = fmt.Fprint(conn, "GET /version HTTP/1.0\r\n\r\n")
		if err != nil {
			t.Log(err)
		}
		n, err := conn.Read(make([]byte, 100))
		if (n > 0) != (who == "good") {
			t.Errorf("a %s peer is answered %d bytes, %v", who, n, err)
		}
		conn.Close()
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	l := zapLogger(slog.New(handler), slog.LevelInfo).With(zap.String("member", "a"))
	l.Debug("not this")
	l.Info("one", zap.Int("z", 1), zap.Strings("a", []string{"x", "y"}))
	l.Warn("two", zap.Error(errors.New("broken")), zap.Duration("took", time.Second))
	l.Error("three")
	want := `level=INFO msg="etcd: one" member=a z=1 a="[x y]"
level=WARN msg="etcd: two" member=a error=broken took=1s
level=ERROR msg="etcd: three" member=a
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	c := dial(t, Options{Endpoints: []string{"http://127.0.0.1:1"}})
	for err, want := range map[error]error{
		rpctypes.ErrGRPCCompacted:        coord.ErrCompacted,
		rpctypes.ErrGRPCLeaseNotFound:    coord.ErrNoLease,
		rpctypes.ErrGRPCNoSpace:          coord.ErrFull,
		rpctypes.ErrGRPCRequestTooLarge:  coord.ErrInvalid,
		rpctypes.ErrGRPCNoLeader:         coord.ErrUnavailable,
		rpctypes.ErrGRPCTimeout:          coord.ErrUnavailable,
		rpctypes.ErrGRPCPermissionDenied: nil,
		rpctypes.ErrGRPCEmptyKey:         nil,
		errors.New("whatever"):           coord.ErrUnavailable,
		context.DeadlineExceeded:         coord.ErrUnavailable,
	} {
		got := c.failed(t.Context(), err)
		if want != nil && !errors.Is(got, want) {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
		if want == nil && (got == nil || errors.Is(got, coord.ErrUnavailable)) {
			t.Errorf("%v: %v, want that and nothing else", err, got)
		}
	}
}

// Responses of a server are taken apart into revisions, or refused.
func TestWatchTake(t *testing.T) {
	t.Parallel()
	event := func(revision int64, key string) *mvccpb.Event {
		return &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("p/" + key), ModRevision: revision}}
	}
	deleted := event(9, "d")
	deleted.Type = mvccpb.Event_DELETE
	var got []string
	w := &watch{Client: &Client{o: Options{Prefix: "p/"}}, next: 5, yield: func(c coord.Change, _ error) bool {
		s := ""
		for _, e := range c.Events {
			s += e.Key
			if e.Deleted {
				s += "-"
			}
		}
		got = append(got, s)
		return s != "last"
	}}
	for _, r := range []*pb.WatchResponse{
		{Created: true},
		{Header: &pb.ResponseHeader{Revision: 6}},
		{Events: []*mvccpb.Event{event(7, "b"), event(7, "a"), event(8, "c"), event(9, "f")}, Fragment: true},
		{Events: []*mvccpb.Event{event(9, "e")}, Fragment: true},
		{Events: []*mvccpb.Event{deleted, event(10, "g")}},
	} {
		ok(t, w.take(r))
	}
	if s := strings.Join(got, " "); s != "ab c d-ef g" || w.next != 11 {
		t.Errorf("got %q, and then from %d", s, w.next)
	}
	for want, r := range map[string]*pb.WatchResponse{
		"revision 10, expected 11": {Events: []*mvccpb.Event{event(10, "a")}},
		"without a key":            {Events: []*mvccpb.Event{{}}},
		"not kept any more":        {CompactRevision: 20, Canceled: true},
		"because":                  {Canceled: true, CancelReason: "because"},
		"left":                     {Events: []*mvccpb.Event{event(12, "last"), event(13, "x")}},
	} {
		w.pending, w.next, got = coord.Change{}, 11, nil
		if err := w.take(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", r, err, want)
		}
	}
}
