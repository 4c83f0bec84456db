package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// etcdNoise is what etcd warns of at each start, what is so on purpose, as its socket in the
// data directory is for this process only, and what follows from the end of another node.
var etcdNoise = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"scheme is http or unix while key and cert files are present; ignoring key and cert files",
	"scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
	"simple token is not cryptographically signed",
	"serving client traffic insecurely; this is strongly discouraged!",
	"Failed to detect schema version",
	"failed to update storage version",
	"request stats",
	// Who is not there, and does not vote any more, is said by the node.
	"retrying of unary invoker failed",
	"lost TCP streaming connection with remote peer",
	"closed TCP streaming connection with remote peer",
	"peer became inactive (message send to peer failed)",
	"rejected stream from remote peer because it was removed",
	"failed to get version",
	"failed to publish local member to cluster through raft",
	"stopped publish because server is stopping",
}

// etcdMeaning is what some of its warnings mean here.
var etcdMeaning = map[string]string{
	"apply request took too long": "what the cluster agrees on takes long on this machine: its processors or its disk are busy",
	"slow fdatasync":              "what the cluster agrees on takes long on this machine: the disk with the data directory is slow",
	"leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk": "the others may elect another leader, as this machine is late: its processors or its disk are busy",
}

// etcdAway is what etcd says again and again while another node is away, which is told of
// in words of ours. It stays, seldom, for when only the way of etcd to it is broken.
var etcdAway = []string{
	"failed to reach the peer URL",
	"failed to get version",
	"prober detected unhealthy status",
	"retrying of unary invoker failed",
	"lost TCP streaming connection with remote peer",
	"closed TCP streaming connection with remote peer",
	"peer became inactive (message send to peer failed)",
	"failed to find remote peer in cluster",
}

// etcdEvery is how often the same warning of etcd is logged, and etcdSeldom how often one
// of a node that is away.
const (
	etcdEvery  = time.Minute
	etcdSeldom = 6 * time.Hour
)

// An operatorLog leaves out what etcd says of its own life, which nobody who looks after
// a cluster needs to know. Warnings stay, now and then: of a slow disk for example. When
// the node stops, etcd warns of each of its sockets that is closed.
type operatorLog struct {
	slog.Handler
	etcd   bool
	shared *etcdState
}

// etcdState is what all handlers of a log have in common.
type etcdState struct {
	mu       sync.Mutex
	stopping bool
	last     map[string]time.Time
}

// ForOperators returns a handler without what only those want to see who look for errors
// in etcd.
func ForOperators(h slog.Handler) slog.Handler {
	return operatorLog{Handler: h, shared: &etcdState{last: map[string]time.Time{}}}
}

// logsStop lets the log know that the node stops.
func logsStop(log *slog.Logger) {
	if l, ok := log.Handler().(operatorLog); ok {
		l.shared.mu.Lock()
		defer l.shared.mu.Unlock()
		l.shared.stopping = true
	}
}

// wants reports whether a warning of etcd is logged.
func (s *etcdState) wants(message string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || slices.Contains(etcdNoise, message) {
		return false
	}
	every := etcdEvery
	if slices.Contains(etcdAway, message) {
		every = etcdSeldom
	}
	if last, ok := s.last[message]; ok && now.Sub(last) < every {
		return false
	}
	s.last[message] = now
	return true
}

func (l operatorLog) Enabled(ctx context.Context, level slog.Level) bool {
	return (!l.etcd || level >= slog.LevelWarn) && l.Handler.Enabled(ctx, level)
}

func (l operatorLog) Handle(ctx context.Context, r slog.Record) error {
	// The client of etcd logs under no name of its own.
	message, isEtcd := strings.CutPrefix(r.Message, "etcd: ")
	if !isEtcd {
		return l.Handler.Handle(ctx, r)
	}
	if r.Level < slog.LevelWarn || !l.shared.wants(message, r.Time) {
		return nil
	}
	if meaning := etcdMeaning[message]; meaning != "" {
		short := slog.NewRecord(r.Time, r.Level, meaning, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "took" {
				short.AddAttrs(a)
			}
			return true
		})
		r = short
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
