package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Operators see what etcd warns of, once and in words that help, and not how it lives.
func TestForOperators(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(ForOperators(slog.NewTextHandler(&out, nil)))
	etcd := log.With("part", "etcd").With("a", 1).WithGroup("g")
	log.Info("seen 1")
	etcd.Info("etcd: not this")
	log.Info("etcd: not this")
	for range 3 {
		etcd.Warn("etcd: seen 2")
		etcd.Warn("etcd: apply request took too long", "took", "1s", "request", "not this")
		etcd.Warn("etcd: " + etcdNoise[0])
	}
	logsStop(log)
	etcd.Error("etcd: not this")
	log.Info("seen 3")
	got := out.String()
	if strings.Count(got, "\n") != 4 || strings.Count(got, "seen") != 3 || strings.Contains(got, "not this") ||
		!strings.Contains(got, "busy") || !strings.Contains(got, "took=1s") {
		t.Errorf("the log is %s", got)
	}
}
