package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/steward"
)

// How far recovery has come is known from how much is left, also when more comes.
func TestRecovery(t *testing.T) {
	t.Parallel()
	var r recovery
	begin := time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	r.see(at(0), 0)
	if got := r.now(at(0)); got != nil {
		t.Errorf("nothing has to be done: %+v", got)
	}
	r.see(at(1), 10)
	if got := r.now(at(1)); got.Done != 0 || got.Total != 10 || got.SecondsLeft != nil {
		t.Errorf("at the beginning: %+v", got)
	}
	r.see(at(2), 6)
	r.see(at(3), 8) // two more
	if got := r.now(at(5)); got.Done != 4 || got.Total != 12 || got.PerSecond != 1 || *got.SecondsLeft != 8 || !got.Since.Equal(at(1)) {
		t.Errorf("in between: %+v", got)
	}
	r.see(at(40), 8)
	if got := r.now(at(40)); got.Done != 4 || got.Total != 12 || got.PerSecond != 0 || got.SecondsLeft != nil {
		t.Errorf("no copy was made for long: %+v", got)
	}
	r.see(at(41), 6)
	if got := r.now(at(41)); got.Done != 6 || got.SecondsLeft == nil {
		t.Errorf("it goes on: %+v", got)
	}
	r.see(at(42), 0)
	if got := r.now(at(42)); got != nil {
		t.Errorf("at the end: %+v", got)
	}
}

// The log says when the cluster gets worse and better, and not again while it is the same.
func TestChronicle(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := chronicle{log: slog.New(slog.NewTextHandler(&out, nil))}
	begin := time.Now()
	report := func(s steward.State) *steward.Report {
		r := &steward.Report{Groups: 8}
		r.States[s] = 8
		if s != steward.Healthy {
			r.Unwell = []steward.GroupStatus{{State: s, Text: "on disk 0123456789abcdef"}}
		}
		return r
	}
	for i, s := range []steward.State{steward.Healthy, steward.Degraded, steward.Degraded, steward.AtRisk, steward.Degraded, steward.Healthy} {
		c.groups(report(s), strings.NewReplacer("0123456789abcdef", "01234567"), begin.Add(time.Duration(i)*time.Second))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`level=WARN msg="the cluster is degraded" groups=8 of=8 "the worst"="on disk 01234567"`,
		`level=WARN msg="the cluster is at risk"`,
		`level=INFO msg="the cluster is degraded"`,
		`level=INFO msg="the cluster is healthy again" after=4s`,
	}
	if len(lines) != len(want) {
		t.Fatalf("the log is %s", out.String())
	}
	for i, w := range want {
		if !strings.Contains(lines[i], w) {
			t.Errorf("line %d is %s, expected %s", i, lines[i], w)
		}
	}
}
