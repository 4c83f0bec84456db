package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(agentVar); config != "" {
		os.Exit(agent(config))
	}
	// A program with the race detector waits for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	go watchStalls()
	code := m.Run()
	os.RemoveAll(programs)
	os.Exit(code)
}

// stalled is for how long nothing on this machine got anywhere, in nanoseconds: that
// is not the fault of a cluster. A stall is when this process, which does little, was
// not run.
var stalled atomic.Int64

func watchStalls() {
	const step, usual = 50 * time.Millisecond, 250 * time.Millisecond
	for last := time.Now(); ; {
		time.Sleep(step)
		now := time.Now()
		if late := now.Sub(last) - step; late > usual {
			stalled.Add(int64(late))
		}
		last = now
	}
}

// patience bounds everything that a test waits for, on a machine that may be busy
// with other things.
const patience = 2 * time.Minute

// run runs a foreign program that must succeed, and returns what it says.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(t, "", name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs a foreign program with an input, and returns both of its outputs together.
func try(t testing.TB, input, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peer.Need(t, name), args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// until waits for what another process does.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test has ended while it waited for ", what)
		case <-late.C:
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// wait lets the world go on for a while: there is nothing to wait for when the claim
// is that nothing happens.
func wait(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A logBuffer may be read while a process writes to it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the end of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if cut := len(all) - lines; cut > 0 {
		all = append([]string{fmt.Sprintf("(%d lines before)", cut)}, all[cut:]...)
	}
	return strings.Join(all, "\n")
}
