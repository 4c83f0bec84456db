package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Operators see what etcd warns of, and not how it lives.
func TestForOperators(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(ForOperators(slog.NewTextHandler(&out, nil)))
	etcd := log.With("part", "etcd").With("a", 1).WithGroup("g")
	log.Info("seen 1")
	etcd.Info("not this")
	etcd.Warn("seen 2")
	etcd.Warn(etcdNoise[0])
	logsStop(log)
	etcd.Error("nor this")
	log.Warn("etcd: nor that")
	log.Info("seen 3")
	if got := out.String(); strings.Count(got, "\n") != 3 || strings.Count(got, "seen") != 3 {
		t.Errorf("the log is %s", got)
	}
}
