package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/nbd"
)

// clusterPort is where nodes join unless they are told another port. The ports after it
// are for nodes that have joined.
const clusterPort = 10810

// A noding is one run of the command node.
type noding struct {
	env           *Env
	o             node.Options
	listen        []string
	clusterListen string
	tls           config.TLS
	limits        string
	diskSize      string
	cache         string
	demo          bool
	quiet         bool
	verbose       bool
	logFormat     string
}

func (e *Env) node() *cobra.Command {
	s := &noding{env: e}
	cmd := &cobra.Command{
		Use:   "node [flags]",
		Short: "Run a node of a cluster, which serves volumes over NBD",
		Long: "Runs a node of a cluster. The first start in an empty data directory makes a\n" +
			"cluster of one, which can be used at once; with --join and a token it becomes\n" +
			"one more node of a cluster. Later starts need neither.\n\n" +
			"Every node serves every volume as nbd://HOST/NAME and its snapshots, read-only,\n" +
			"as nbd://HOST/NAME@SNAPSHOT. SIGTERM and SIGINT hand the volumes over to other\n" +
			"nodes when the requests in flight have been answered, and end it; a second one\n" +
			"ends it at once.",
		Example: "  strata node --data /var/lib/strata\n" +
			"  strata cluster token\n" +
			"  strata node --data /var/lib/strata --join HOST --token TOKEN",
		GroupID: groupCluster,
		Args:    arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			defer s.clean()
			if err := s.check(cmd.Context()); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	c := &s.o.Cluster
	f.StringVar(&c.Dir, "data", "", "`DIR` where the node keeps everything ("+dataDefault+")")
	f.StringVar(&c.Join, "join", "", "`HOST[:PORT]` of a node whose cluster it joins, if the data directory is empty")
	f.StringVar(&c.Token, "token", "", "`TOKEN` to join with, from 'strata cluster token' (default $STRATA_TOKEN)")
	f.StringVar(&c.Name, "name", "", "`NAME` of the node for people (default that of the machine)")
	f.StringVar(&c.Zone, "zone", "", "`NAME` of what fails together with the node, such as its rack (default the node alone)")
	f.StringVar(&s.diskSize, "disk-size", "", "`SIZE` of its disk when it is made (default nine tenths of what is free)")
	f.StringVar(&s.cache, "cache", "", "`SIZE` of the memory for its disk (default 128M)")
	f.IntVar(&c.Groups, "groups", 0, "`NUMBER` of placement groups of a cluster that is made, a power of two (default 16384)")
	f.StringArrayVar(&s.listen, "listen", nil, "`ADDRESS` for NBD clients: tcp://HOST:PORT, unix:///PATH?mode=0660, vsock://CID:PORT, systemd:NAME (repeatable; default "+listen.Default.String()+")")
	tlsFlags(f, &s.tls)
	f.StringVar(&s.limits, "limits", "", "bounds of what NBD clients can make the node use, as for limits() in a configuration: 'conns=1000, bytes=\"2G\"'")
	f.StringVar(&s.clusterListen, "cluster-listen", "", "`HOST:PORT` for nodes that join, and the two ports after it for those that have (default port 10810 of the address by which the machine reaches others)")
	f.DurationVar(&c.Lease, "lease", 0, "how long a node may not be heard of until others do without it (default 10s)")
	f.BoolVar(&s.demo, "demo", false, "make a cluster in a fresh temporary directory, with a volume to try things out; it is gone at the end")
	f.StringVar(&s.o.Control, "control", "", "`PATH` of the control socket (default control.sock in the data directory)")
	f.StringVar(&s.o.Metrics, "metrics", "", "serve metrics for Prometheus at the TCP `ADDRESS` HOST:PORT")
	f.DurationVar(&s.o.Grace, "grace", 30*time.Second, "how long requests in flight may take at the end")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "do not print what to do next")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log every connection")
	f.StringVar(&s.logFormat, "log", "text", "format of the log on standard error: text or json")
	return cmd
}

// check makes options of the flags.
func (s *noding) check(ctx context.Context) (err error) {
	c := &s.o.Cluster
	if s.demo && (c.Dir != "" || c.Join != "") {
		return usagef("--demo makes a cluster of its own in a directory of its own: it cannot be combined with --data or --join")
	}
	if s.demo {
		if c.Dir, err = os.MkdirTemp("", "strata-node-"); err != nil {
			return err
		}
	}
	c.Dir = cmp.Or(c.Dir, s.env.dataDir())
	s.o.Control = cmp.Or(s.o.Control, filepath.Join(c.Dir, controlName))
	c.Token = cmp.Or(c.Token, s.env.Getenv("STRATA_TOKEN"))
	if c.Join == "" && c.Token == "" {
		// a cluster of its own, or one that it has joined
	} else if c.Join == "" {
		return usagef("--token is given without --join: say whose cluster the node joins")
	} else if c.Token == "" {
		return usagef("--join needs --token; 'strata cluster token' on a node of the cluster makes one")
	} else if c.Join, err = withPort(c.Join); err != nil {
		return usagef("--join %s", err)
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return usagef("--log %s: want text or json", s.logFormat)
	}
	if s.o.Grace < 0 {
		return usagef("--grace %v: want a duration that is not negative", s.o.Grace)
	}
	for flag, size := range map[string]struct {
		text string
		into *int64
	}{"disk-size": {s.diskSize, &c.DiskSize}, "cache": {s.cache, &c.Cache}} {
		if size.text == "" {
			continue
		}
		if *size.into, err = units.ParseBytes(size.text); err != nil {
			return usagef("--%s: %w", flag, err)
		}
	}
	if len(s.listen) == 0 {
		s.listen = []string{listen.Default.String()}
	}
	for _, text := range s.listen {
		a, err := listen.Parse(text)
		if err != nil {
			return &usageError{err}
		}
		s.o.Listen = append(s.o.Listen, a)
	}
	if err := errors.Join(s.checkTLS(), s.checkLimits(ctx)); err != nil {
		return err
	}
	return s.places()
}

// checkTLS makes options of the flags on TLS.
func (s *noding) checkTLS() (err error) {
	if err := checkTLS(&s.tls); err != nil {
		return err
	}
	switch s.tls.Mode {
	case config.TLSOff:
		return nil
	case config.TLSOptional:
		s.o.TLS = nbd.TLSOptional
	default:
		s.o.TLS = nbd.TLSRequired
	}
	files := nbd.TLSFiles{Cert: s.tls.Cert, Key: s.tls.Key, ClientCA: s.tls.ClientCA, Report: func(err error) {
		if err != nil {
			s.o.Cluster.Log.Error("the certificates have changed and cannot be used; the old ones stay in force", "error", err)
			return
		}
		s.o.Cluster.Log.Info("the changed certificates are used")
	}}
	s.o.TLSConfig, err = files.ServerConfig()
	return err
}

// checkLimits makes options of the flag with the limits.
func (s *noding) checkLimits(ctx context.Context) error {
	if s.limits == "" {
		return nil
	}
	cfg, err := s.env.loader().LoadBytes(ctx, "--limits", []byte("limits("+s.limits+")"))
	if err != nil {
		return &usageError{err}
	}
	s.o.Limits = cfg.Limits.Server()
	return nil
}

// withPort is an address with the port where nodes join if it has none.
func withPort(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, strconv.Itoa(clusterPort)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%s: want HOST or HOST:PORT, an IPv6 address in brackets", address)
	}
	return net.JoinHostPort(host, port), nil
}

// places decides at which addresses the node is there for others.
func (s *noding) places() error {
	c := &s.o.Cluster
	if s.clusterListen == "" {
		s.clusterListen = net.JoinHostPort(ownHost(c.Join), strconv.Itoa(clusterPort))
	}
	host, port, err := net.SplitHostPort(s.clusterListen)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || n > 65532 || host == "" {
		return usagef("--cluster-listen %s: want HOST:PORT, with a port from 1 to 65532 and a host that other nodes can reach", s.clusterListen)
	}
	at := func(i uint64) string { return net.JoinHostPort(host, strconv.FormatUint(n+i, 10)) }
	c.Door, c.Listen, c.Agreed, c.Votes = at(0), at(1), at(2), at(3)
	return nil
}

// ownHost is the address by which this machine reaches another one, or most others.
func ownHost(other string) string {
	for _, to := range []string{other, "192.0.2.1:9", "[2001:db8::1]:9"} { // the last two are nobody's
		if to == "" {
			continue
		}
		c, err := net.Dial("udp", to) // sends nothing
		if err != nil {
			continue
		}
		defer c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsUnspecified() {
			return a.IP.String()
		}
	}
	return "127.0.0.1"
}

func (s *noding) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if s.verbose {
		o.Level = slog.LevelDebug
	}
	var h slog.Handler = slog.NewTextHandler(s.env.Stderr, o)
	if s.logFormat == "json" {
		h = slog.NewJSONHandler(s.env.Stderr, o)
	}
	if !s.verbose {
		h = node.ForOperators(h)
	}
	return slog.New(h)
}

func (s *noding) run(ctx context.Context) error {
	s.o.Cluster.Log, s.o.Cluster.Version = s.logger(), s.env.Version
	s.o.Notify = daemon.SystemdNotifier(s.env.Getenv)
	nothing := func(context.Context, *node.Node) {
		s.o.Cluster.Log.Info("there is no configuration to read again; certificates that change are used by themselves")
	}
	n, err := startProcess(ctx, s.env, func(ctx context.Context) (*node.Node, error) { return node.Start(ctx, s.o) }, nothing)
	if err != nil {
		return err
	}
	if s.demo {
		if err := n.Cluster().Create(ctx, demoVolume, record.Spec{Size: 1 << 30}); err != nil {
			n.Stop()
			return errors.Join(err, n.Wait())
		}
	}
	if !s.quiet {
		s.banner(s.env.Stdout, n)
	}
	return waitProcess(ctx, s.env, n, nothing)
}
