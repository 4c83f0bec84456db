package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/internal/race"
)

// relayTo names the variable that makes this program a relay, see relay.
const relayTo = "STRATA_E2E_RELAY"

// The program under test is built once for all tests.
var (
	buildDir string
	program  = sync.OnceValues(buildProgram)
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(relayTo); socket != "" {
		os.Exit(relay(socket))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	buildDir = dir
	// A program with the race detector waits for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	return m.Run()
}

func buildProgram() (string, error) {
	path := filepath.Join(buildDir, "strata")
	args := []string{"build", "-o", path}
	if race.Enabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../../cmd/strata")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
}

// relay joins standard input and output to a Unix socket. A virtual machine
// starts one for each connection that its guest makes.
func relay(socket string) int {
	c, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return 1
	}
	go func() {
		io.Copy(c, os.Stdin)
		c.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(os.Stdout, c)
	return 0
}

// programPath is the program under test.
func programPath(t testing.TB) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDir is a directory with a path that is short enough for sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// patience bounds every single program that a test runs, on a machine that
// may be busy with other things.
const patience = 2 * time.Minute

// patient returns a context that ends after patience, of the time in which this
// process ran: where all of them are stopped for a while, none is to blame.
func patient() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		const step = 100 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		for range patience / step {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// command prepares a foreign program, or this one.
func command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	path := ""
	if name == "strata" {
		path = programPath(t)
	} else {
		path = peer.Need(t, name)
	}
	ctx, cancel := patient()
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	return cmd
}

// try runs a program and returns both of its outputs together.
func try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, err := command(t, name, args...).CombinedOutput()
	return string(out), err
}

// run runs a program that must succeed and returns its standard output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return runIn(t, "", name, args...)
}

func runIn(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := command(t, name, args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// refuse runs a program that must fail and say what is wanted.
func refuse(t testing.TB, want, name string, args ...string) {
	t.Helper()
	out, err := try(t, name, args...)
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("%s %s: %v, %q, expected a failure with %q", name, strings.Join(args, " "), err, out, want)
	}
}

// want fails the test unless got holds each of the texts.
func want(t testing.TB, got string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("%q is missing in:\n%s", text, got)
		}
	}
}

// until waits for what another process does.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := patient()
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("waited in vain for ", what)
		}
	}
}
