package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/listen"
)

// A serving is one run of the command serve.
type serving struct {
	env       *Env
	args      []string
	file      string
	listen    []string
	tls       config.TLS
	readOnly  bool
	control   string
	metrics   string
	grace     time.Duration
	quiet     bool
	verbose   bool
	logFormat string
	set       func(flag string) bool // whether the user gave it
}

func (e *Env) serve() *cobra.Command {
	s := &serving{env: e}
	cmd := &cobra.Command{
		Use:   "serve [EXPORT...] [flags]",
		Short: "Serve disks over NBD",
		Long: "Serves disks to NBD clients. An EXPORT is a file, an NBD URI or an expression,\n" +
			"with NAME= before it if its name is not to be that of the file. The only export\n" +
			"of a server is also its default. 'strata layers' lists what expressions are made\n" +
			"of.\n\n" +
			"SIGTERM and SIGINT end the server when it has answered the requests in flight; a\n" +
			"second one ends it at once. SIGHUP reads the configuration again.",
		Example: "  strata serve disk.img\n" +
			"  strata serve 'vm=concat(\"a.img\", cow(\"b.img\", \"b.cow\"), \"c.img\")'\n" +
			"  strata serve --listen unix:///run/s.sock 'scratch=mem(\"1G\")'\n" +
			"  strata serve -c strata.star",
		GroupID: groupServe,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.args, s.set = args, cmd.Flags().Changed
			if err := s.check(); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.file, "config", "c", "", "serve what the configuration `FILE` says")
	f.StringArrayVar(&s.listen, "listen", nil, "`ADDRESS` to listen at: tcp://HOST:PORT, unix:///PATH?mode=0660, vsock://CID:PORT, systemd:NAME, stdio: (repeatable; default "+listen.Default.String()+")")
	tlsFlags(f, &s.tls)
	f.BoolVar(&s.readOnly, "read-only", false, "forbid writing")
	f.StringVar(&s.control, "control", "", "`PATH` of the control socket, or none (default as for status)")
	f.StringVar(&s.metrics, "metrics", "", "serve metrics for Prometheus at the TCP `ADDRESS` HOST:PORT")
	f.DurationVar(&s.grace, "grace", 30*time.Second, "how long requests in flight may take at the end")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "do not print what is served")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log every connection")
	f.StringVar(&s.logFormat, "log", "text", "format of the log on standard error: text or json")
	return cmd
}

// check looks for flags that contradict each other.
func (s *serving) check() error {
	switch {
	case s.file == "" && len(s.args) == 0:
		return usagef("say what to serve: a file, a URI, an expression, or -c with a configuration")
	case s.file != "" && len(s.args) > 0:
		return usagef("%q is given besides the configuration %s; exports belong into the configuration", s.args[0], s.file)
	case s.logFormat != "text" && s.logFormat != "json":
		return usagef("--log %s: want text or json", s.logFormat)
	case s.grace < 0:
		return usagef("--grace %v: want a duration that is not negative", s.grace)
	}
	for _, flag := range []string{"tls", "tls-cert", "tls-key", "tls-client-ca", "read-only"} {
		if s.file != "" && s.set(flag) {
			return usagef("--%s cannot be combined with -c; it belongs into the configuration", flag)
		}
	}
	return checkTLS(&s.tls)
}

// tlsFlags adds the flags on TLS for NBD clients.
func tlsFlags(f *pflag.FlagSet, t *config.TLS) {
	f.StringVar(&t.Mode, "tls", "", "off, optional or required (default required with --tls-cert, else off)")
	f.StringVar(&t.Cert, "tls-cert", "", "PEM `FILE` with the server's certificate")
	f.StringVar(&t.Key, "tls-key", "", "PEM `FILE` with its key")
	f.StringVar(&t.ClientCA, "tls-client-ca", "", "PEM `FILE` with the authorities that clients' certificates must come from")
}

// checkTLS completes what those flags say.
func checkTLS(t *config.TLS) error {
	if t.Mode == "" {
		t.Mode = config.TLSOff
		if t.Cert != "" || t.Key != "" || t.ClientCA != "" {
			t.Mode = config.TLSRequired
		}
	}
	switch {
	case !slices.Contains([]string{config.TLSOff, config.TLSOptional, config.TLSRequired}, t.Mode):
		return usagef("--tls %s: want off, optional or required", t.Mode)
	case t.Mode == config.TLSOff:
		return nil
	case t.Cert == "" || t.Key == "":
		return usagef("TLS needs --tls-cert and --tls-key; 'strata cert' makes certificates for a lab")
	}
	return nil
}

// load is what is to be served, now.
func (s *serving) load(ctx context.Context) (*config.Config, error) {
	var cfg *config.Config
	var err error
	if s.file != "" {
		cfg, err = s.env.loader().Load(ctx, s.file)
	} else {
		cfg, err = s.env.loader().Args(ctx, s.args)
	}
	if err != nil {
		return nil, err
	}
	if s.file == "" {
		cfg.TLS = &s.tls
		if s.readOnly {
			cfg.MakeReadOnly()
		}
	}
	if len(s.listen) > 0 {
		cfg.Listeners = nil
		for _, address := range s.listen {
			a, err := listen.Parse(address)
			if err != nil {
				return nil, &usageError{err}
			}
			cfg.Listeners = append(cfg.Listeners, config.Listener{Address: a.String()})
		}
	}
	if len(cfg.Listeners) == 0 {
		cfg.Listeners = []config.Listener{{Address: listen.Default.String()}}
	}
	if s.control != "" {
		cfg.Control = s.control
	}
	if cfg.Control == "none" {
		cfg.Control = ""
	}
	if len(cfg.Exports) == 0 {
		return nil, nothingServed(s.file)
	}
	return cfg, nil
}

// defaultControl decides on the control socket if nobody else has: the usual
// place, unless there is a connection on standard input, or another server
// has it, or it cannot be had.
func (s *serving) defaultControl(ctx context.Context, log *slog.Logger) error {
	cfg, err := s.load(ctx)
	if err != nil || cfg.Control != "" || s.control != "" {
		return err
	}
	s.control = "none"
	if s.stdio(cfg) {
		return nil
	}
	path := s.env.controlPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		log.Warn("there is no control socket; --control PATH makes one", "reason", err)
		return nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		log.Warn("there is no control socket: another server has the usual one; --control PATH makes one", "path", path)
		return nil
	}
	s.control = path
	return nil
}

func (s *serving) stdio(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.Address == "stdio:" })
}

func (s *serving) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelWarn}
	if s.verbose {
		o.Level = slog.LevelDebug
	} else if s.file != "" {
		o.Level = slog.LevelInfo
	}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(s.env.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(s.env.Stderr, o))
}

func (s *serving) run(ctx context.Context) error {
	log := s.logger()
	if err := s.defaultControl(ctx, log); err != nil {
		return err
	}
	o := daemon.Options{
		Load: s.load, Metrics: s.metrics, Grace: s.grace, Version: s.env.Version, Log: log,
		Notify: daemon.SystemdNotifier(s.env.Getenv),
		Stdio: func() (net.Conn, error) {
			if s.env.Stdin == nil || s.env.StdoutFile == nil {
				return nil, errors.New("it is not a file")
			}
			return listen.Standard(s.env.Stdin, s.env.StdoutFile)
		},
	}
	d, err := startProcess(ctx, s.env, func(ctx context.Context) (*daemon.Daemon, error) { return daemon.Start(ctx, o) }, reload)
	if err != nil {
		return err
	}
	if addresses := d.Addresses(); !s.quiet && len(addresses) > 0 {
		writeBanner(s.env.Stdout, s.env.command(), d.Status(), addresses)
	}
	return waitProcess(ctx, s.env, d, reload)
}

// reload lets a server read its configuration again, which logs what comes of it.
func reload(ctx context.Context, d *daemon.Daemon) { go d.Reload(ctx) }
