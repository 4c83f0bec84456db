package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
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

// A node that is away for long does not fill the logs of the others.
func TestAwaySeldom(t *testing.T) {
	t.Parallel()
	s := &etcdState{last: map[string]time.Time{}}
	begin, count := time.Unix(0, 0), map[string]int{}
	for d := time.Duration(0); d < 24*time.Hour; d += 10 * time.Second {
		for _, m := range []string{etcdAway[0], "slow fdatasync"} {
			if s.wants(m, begin.Add(d)) {
				count[m]++
			}
		}
	}
	if count[etcdAway[0]] != 4 || count["slow fdatasync"] != 24*60 {
		t.Errorf("in a day: %v", count)
	}
}
