package cli

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/nbd"
)

// A noding is one run of the command node.
type noding struct {
	env           *Env
	o             node.Options
	listen        []string
	clusterListen string
	tls           config.TLS
	limits        string
	disks         []string
	weight        string
	diskSize      string
	cache         string
	demo          bool
	fresh         string // the directory that --demo has made, and that goes with it
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
	f.StringArrayVar(&s.disks, "disk", nil, "`PATH`[,size=SIZE][,weight=SIZE][,overwrite] of a disk: a block device, a file, which is made, or a directory for all of it (repeatable; default one in the data directory)")
	f.StringVar(&s.diskSize, "disk-size", "", "`SIZE` of the one in the data directory when it is made (default nine tenths of what is free)")
	f.StringVar(&s.weight, "weight", "", "`SIZE` that its disks count as, which decides how much they get (default their size)")
	f.BoolVar(&c.GatewayOnly, "gateway-only", false, "have no disk, and only serve volumes")
	f.BoolVar(&c.OlderCopy, "older-copy", false, "start although the data directory is an older copy of that of the node, as there is no newer one: what was written since may be lost")
	f.StringVar(&s.cache, "cache", "", "`SIZE` of the memory for each disk (default 128M)")
	f.IntVar(&c.Groups, "groups", 0, "`NUMBER` of placement groups of a cluster that is made, a power of two (default 16384)")
	f.StringArrayVar(&s.listen, "listen", nil, "`ADDRESS` for NBD clients: tcp://HOST:PORT, unix:///PATH?mode=0660, vsock://CID:PORT, systemd:NAME (repeatable; default "+listen.Default.String()+")")
	tlsFlags(f, &s.tls)
	f.StringVar(&s.limits, "limits", "", "bounds of what NBD clients can make the node use, as for limits() in a configuration: 'conns=1000, bytes=\"2G\"'")
	f.StringVar(&s.clusterListen, "cluster-listen", "", "`HOST:PORT` where nodes join; the three ports after it are for those that have (default port 10810 of the address by which the machine reaches others)")
	f.StringVar(&c.Advertise, "advertise", "", "`HOST` by which other nodes find this one, if that is another one")
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
		if s.fresh, err = os.MkdirTemp("", "strata-node-"); err != nil {
			return err
		}
		c.Dir = s.fresh
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
	if err := s.checkDisks(); err != nil {
		return err
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
