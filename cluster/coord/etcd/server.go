package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// ServerOptions are the options of Start. Name and Dir are needed.
type ServerOptions struct {
	// Name is that of the member, of its own in the cluster.
	Name string
	// Dir is where it keeps its data. It must be on a disk, and on none that is
	// busy all the time: every change waits for it.
	Dir string

	// PeerURLs are where it listens to other members, such as
	// https://10.0.0.1:2380. None is for a cluster of one, which has nobody to
	// listen to.
	PeerURLs []string
	// ClientURLs are where it listens to clients, besides the socket in Dir that
	// Endpoint names.
	ClientURLs []string
	// PeersFind and ClientsFind are where others find it, if those are not PeerURLs
	// and ClientURLs: a name of the machine for example.
	PeersFind, ClientsFind []string
	// PeerTLS and ClientTLS are for the https URLs of both. Whoever connects must
	// have a certificate of the same CA.
	PeerTLS, ClientTLS TLSFiles

	// Members are the peer URLs of all members by name, this one among them. None
	// is a cluster of this one alone. It matters only when there are no data in
	// Dir yet.
	Members map[string][]string
	// Join says that the cluster exists, and that this member was added to it;
	// otherwise all Members begin it together.
	Join bool
	// ClusterToken is part of the identity of a cluster that begins, so that two
	// of them never mix. Empty is "strata".
	ClusterToken string

	// Recover makes a cluster of this member alone out of its data, when the others
	// are lost for good. What only they knew is lost, too, and none of them may ever
	// run again. It is for one start.
	Recover bool

	// Heartbeat is how often the leader tells that it is there, and Election after
	// which silence others want to lead. 0 is 500 ms and 5 s: with less, disks
	// that are busy look like leaders that are dead. A lease lives at least one
	// and a half times as long as Election. See package cluster for what a node
	// chooses.
	Heartbeat, Election time.Duration
	// Quota is how many bytes the database may have. 0 is 2 GiB. When it has more,
	// what is put fails with coord.ErrFull until, some time after enough was
	// deleted, the database is small again; for that it forgets all history.
	Quota int64
	// Retention is for how long changes are kept for watches. 0 is one hour.
	Retention time.Duration
	// Logger is told what etcd has to say. Nil is nobody.
	Logger *slog.Logger

	noSync bool          // for tests that need no durability
	upkeep time.Duration // between looks at the size of the database; 0 is a minute
	ahead  int64         // see Server; 0 is the usual
}

// TLSFiles are the files with the certificate and key of a member in PEM, and with
// the CA that it believes.
type TLSFiles struct {
	Cert, Key, CA string
	// ServerName is a name that all certificates have, if they do not have those
	// of hosts. Where they connect from is then no matter either.
	ServerName string
	// Revoked is a file with certificates of the CA that are refused, a list of
	// X.509 in DER, which is read with each connection. None is all right.
	Revoked string
}

func (f TLSFiles) info() transport.TLSInfo {
	if f == (TLSFiles{}) {
		return transport.TLSInfo{}
	}
	return transport.TLSInfo{
		CertFile: f.Cert, KeyFile: f.Key, TrustedCAFile: f.CA, ClientCertAuth: true,
		ServerName: f.ServerName, SkipClientSANVerify: f.ServerName != "", CRLFile: f.Revoked,
	}
}

// A Server is a member of an etcd cluster in this process. When it can write its
// data no more it ends the process: what it has promised may be lost.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	dir      string // of etcd itself
	quota    int64
	ahead    int64 // how much room the database has more than it needs
	log      *slog.Logger
	lock     *fileutil.LockedFile // of the directory
	once     sync.Once            // etcd cannot be closed twice
	stop     context.CancelFunc   // ends what goes on in the background
	work     sync.WaitGroup
}

// Start starts a member and waits until it takes part, for as long as ctx allows.
// A member alone does so in less than a second. One that joins may need 5 s and two
// Elections more: it waits for the news of its own start, and when that has come
// with the snapshot of all that was before, etcd misses it and announces it again.
func Start(ctx context.Context, o ServerOptions) (*Server, error) {
	cfg, err := o.config()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	var w waiting
	cfg.GRPCAdditionalServerOptions = append(cfg.GRPCAdditionalServerOptions, grpc.ChainUnaryInterceptor(w.intercept))
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("etcd: starting member %s: %w", o.Name, err)
	}
	w.server.Store(e.Server)
	s := &Server{etcd: e, endpoint: cfg.ListenClientUrls[0].String(), dir: cfg.Dir, quota: cfg.QuotaBackendBytes, ahead: cmp.Or(o.ahead, usualAhead), log: o.logger(), lock: lock}
	background, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	select {
	case <-e.Server.ReadyNotify():
		s.takeRoom()
		s.work.Go(func() { s.keepSmall(background, cmp.Or(o.upkeep, time.Minute)) })
		s.work.Go(func() { s.cutSilent(background) })
		return s, nil
	case <-e.Server.StopNotify():
		err = errors.New("it has stopped")
	case err = <-e.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Server.HardStop() // or Close waits for it to be ready
	s.Close()
	return nil, fmt.Errorf("etcd: waiting for member %s: %w", o.Name, err)
}

// lockDir makes the directory of a member and locks it. Etcd would take the socket of
// the member that uses it, and then wait for its data without end.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := fileutil.TryLockFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("the directory %s is in use by another member", dir)
	}
	return lock, err
}

// Endpoint is that of the socket in the directory of the member, for Dial.
func (s *Server) Endpoint() string { return s.endpoint }

// Done returns a channel that is closed when the member is not running any more,
// by Close or because it was removed from the cluster.
func (s *Server) Done() <-chan struct{} { return s.etcd.Server.StopNotify() }

// Led tells whether the member knows a leader.
func (s *Server) Led() bool { return s.etcd.Server.Leader() != 0 }

// Abort stops the member like a crash: nobody is told, and another one leads only when
// that was noticed.
func (s *Server) Abort() {
	s.etcd.Server.HardStop()
	s.Close()
}

// Close stops the member and waits for that. If it leads, another one takes over
// first. More calls do nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		s.stop()
		s.work.Wait()
		s.etcd.Close()
		s.lock.Close()
	})
}

// maxSocket is how long the path of a socket may be.
const maxSocket = 107

// check says what is wrong with options.
func (o ServerOptions) check() error {
	switch {
	case o.Name == "":
		return errors.New("the member has no name")
	case strings.ContainsAny(o.Name, ",="):
		return fmt.Errorf("the name %q of a member, which may not have a comma or =", o.Name)
	case o.Dir == "":
		return fmt.Errorf("member %s has no directory", o.Name)
	case len(o.Members) > 0 && o.Members[o.Name] == nil:
		return fmt.Errorf("member %s is not among the members %s", o.Name, strings.Join(slices.Sorted(maps.Keys(o.Members)), ", "))
	case o.Join && len(o.Members) == 0:
		return fmt.Errorf("member %s is to join, but the members are not named", o.Name)
	case o.Recover && (o.Join || len(o.Members) > 0):
		return fmt.Errorf("member %s is to recover alone, and to be with others", o.Name)
	case o.Heartbeat < 0 || o.Election < 0 || o.Quota < 0 || o.Retention < 0:
		return fmt.Errorf("negative times or sizes for member %s", o.Name)
	}
	return nil
}

// config is what etcd calls all that.
func (o ServerOptions) config() (*embed.Config, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, filepath.Join(dir, "etcd")
	if cfg.ListenPeerUrls, err = parse(o.PeerURLs); err != nil {
		return nil, fmt.Errorf("peer URLs of member %s: %w", o.Name, err)
	}
	socket := filepath.Join(dir, "client")
	if len(socket) > maxSocket {
		return nil, fmt.Errorf("the path of the socket %s has %d bytes, at most %d are possible", socket, len(socket), maxSocket)
	}
	clients := append([]string{"unix://" + socket}, o.ClientURLs...)
	if cfg.ListenClientUrls, err = parse(clients); err != nil {
		return nil, fmt.Errorf("client URLs of member %s: %w", o.Name, err)
	}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	if found := o.clients(); len(found) > 0 { // others do not have the socket
		if cfg.AdvertiseClientUrls, err = parse(found); err != nil {
			return nil, fmt.Errorf("client URLs of member %s: %w", o.Name, err)
		}
	}
	peers := o.peers()
	if len(peers) == 0 {
		// It must have one all the same.
		peers = []string{"unix://" + filepath.Join(dir, "nobody")}
	}
	if cfg.AdvertisePeerUrls, err = parse(peers); err != nil {
		return nil, fmt.Errorf("peer URLs of member %s: %w", o.Name, err)
	}
	cfg.PeerTLSInfo, cfg.ClientTLSInfo = o.PeerTLS.info(), o.ClientTLS.info()

	members := o.Members
	if len(members) == 0 {
		members = map[string][]string{o.Name: peers}
	}
	cfg.InitialCluster = initialCluster(members)
	cfg.InitialClusterToken = cmp.Or(o.ClusterToken, "strata")
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	if cfg.ForceNewCluster = o.Recover; o.Recover {
		// Without data etcd would begin a new cluster instead.
		if _, err := os.Stat(filepath.Join(cfg.Dir, "member", "wal")); err != nil {
			return nil, fmt.Errorf("member %s has nothing to recover: %w", o.Name, err)
		}
	}
	o.tune(cfg)
	return cfg, nil
}

// peers and clients are where others find the member.
func (o ServerOptions) peers() []string {
	if len(o.PeersFind) > 0 {
		return o.PeersFind
	}
	return o.PeerURLs
}

func (o ServerOptions) clients() []string {
	if len(o.ClientsFind) > 0 {
		return o.ClientsFind
	}
	return o.ClientURLs
}

// tune sets what is about speed and size.
func (o ServerOptions) tune(cfg *embed.Config) {
	cfg.TickMs = uint(cmp.Or(o.Heartbeat, 500*time.Millisecond) / time.Millisecond)
	cfg.ElectionMs = uint(cmp.Or(o.Election, 5*time.Second) / time.Millisecond)
	cfg.QuotaBackendBytes = cmp.Or(o.Quota, 2<<30)
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = cmp.Or(o.Retention, time.Hour).String()
	cfg.BootstrapDefragThresholdMegabytes = 64
	cfg.UnsafeNoFsync = o.noSync
	cfg.EnableGRPCGateway = false // nobody speaks JSON to it
	// The check refuses to add a member, even one without a vote, while one of
	// three is down: just when another one is needed. Package voters has checks of
	// its own, which add first and remove afterwards.
	cfg.StrictReconfigCheck = false
	cfg.MaxLearners = 2 // which get their votes together
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(o.logger(), slog.LevelInfo, zap.WithFatalHook(&lastWords{o.logger(), o.Dir, os.Exit})))
}

func (o ServerOptions) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// parse makes URLs of strings.
func parse(all []string) (us []url.URL, err error) {
	for _, s := range all {
		u, err := url.Parse(s)
		if err != nil {
			return nil, err
		}
		switch u.Scheme {
		case "https", "http", "unix":
			us = append(us, *u)
		default:
			return nil, fmt.Errorf("%s has the scheme %q, expected https, http or unix", s, u.Scheme)
		}
	}
	return us, nil
}

// initialCluster is the form of etcd for members and their URLs.
func initialCluster(members map[string][]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		for _, u := range members[name] {
			all = append(all, name+"="+u)
		}
	}
	return strings.Join(all, ",")
}
