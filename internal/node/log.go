package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
)

// etcdNoise is what etcd warns of at each start, and what is so on purpose: its socket in
// the data directory is for this process only.
var etcdNoise = []string{
	"etcd: Running http and grpc server on single port. This is not recommended for production.",
	"etcd: scheme is http or unix while key and cert files are present; ignoring key and cert files",
	"etcd: scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
	"etcd: simple token is not cryptographically signed",
	"etcd: serving client traffic insecurely; this is strongly discouraged!",
}

// An operatorLog leaves out what etcd says of its own life, which nobody who looks after
// a cluster needs to know. Warnings stay: of a slow disk for example. When the node stops,
// etcd warns of each of its sockets that is closed.
type operatorLog struct {
	slog.Handler
	etcd     bool
	stopping *atomic.Bool
}

// ForOperators returns a handler without what only those want to see who look for errors
// in etcd.
func ForOperators(h slog.Handler) slog.Handler {
	return operatorLog{Handler: h, stopping: new(atomic.Bool)}
}

// logsStop lets the log know that the node stops.
func logsStop(log *slog.Logger) {
	if l, ok := log.Handler().(operatorLog); ok {
		l.stopping.Store(true)
	}
}

func (l operatorLog) Enabled(ctx context.Context, level slog.Level) bool {
	return (!l.etcd || level >= slog.LevelWarn && !l.stopping.Load()) && l.Handler.Enabled(ctx, level)
}

func (l operatorLog) Handle(ctx context.Context, r slog.Record) error {
	// The client of etcd logs under no name of its own.
	client := !l.etcd && strings.HasPrefix(r.Message, "etcd: ")
	if client && (r.Level < slog.LevelWarn || l.stopping.Load()) || l.etcd && slices.Contains(etcdNoise, r.Message) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func (l operatorLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.etcd = l.etcd || slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "part" && a.Value.String() == "etcd" })
	l.Handler = l.Handler.WithAttrs(attrs)
	return l
}

func (l operatorLog) WithGroup(name string) slog.Handler {
	l.Handler = l.Handler.WithGroup(name)
	return l
}
