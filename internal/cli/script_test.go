package cli

import (
	"bufio"
	"bytes"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strata-storage/strata/internal/race"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"strata": func() { os.Exit(Main("test")) }})
}

// TestScripts runs the scripts of testdata. Set UPDATE_SCRIPTS to take what
// the commands print as what they should print.
func TestScripts(t *testing.T) {
	t.Parallel()
	_, update := os.LookupEnv("UPDATE_SCRIPTS")
	program := ""
	if race.Enabled {
		program = plainProgram(t)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[serverKey{}] = map[string]*testServer{}
			if program != "" {
				env.Setenv("PATH", program+string(filepath.ListSeparator)+env.Getenv("PATH"))
			}
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
			for i, name := range []string{"PORT", "PORT2"} {
				env.Setenv(name, strconv.Itoa(clusterPorts(env.WorkDir)+10*i))
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server":  startServer,
			"demo":    startDemo,
			"node":    startNode,
			"signal":  signalServer,
			"ended":   serverEnded,
			"data":    writeData,
			"exits":   exits,
			"replace": replaceText,
			"text":    setText,
		},
	})
}

// clusterPorts is where nodes of a script can have their ports: below those that the
// system gives to others, and different for different scripts.
func clusterPorts(script string) int {
	h := fnv.New32a()
	io.WriteString(h, script+strconv.Itoa(os.Getpid()))
	return 12000 + 20*int(h.Sum32()%900)
}

// setText is "text NAME FILE": the environment has what is in the file.
func setText(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// plainProgram builds the program without the race detector, with which each
// of a hundred processes takes a third of a second to start, and returns its
// directory. The tests within one process look for races.
func plainProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-X main.version=test", "-o", filepath.Join(dir, "strata"), "../../cmd/strata")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// A testServer is a server that a script has started.
type testServer struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan error
}

// serverOf is the server of a script, or the one of its nodes that args[at] names.
func serverOf(ts *testscript.TestScript, args []string, at int) *testServer {
	name := ""
	if len(args) > at {
		name = args[at]
	}
	s := ts.Value(serverKey{}).(map[string]*testServer)[name]
	if s == nil {
		ts.Fatalf("there is no server %q", name)
	}
	return s
}

type serverKey struct{}

// startServer is "server ARGS...": it runs strata serve, and waits until it
// has printed what it serves, which becomes the file "banner".
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	start(ts, append([]string{"serve"}, args...))
}

// startDemo is "demo ARGS...", the same for strata demo.
func startDemo(ts *testscript.TestScript, neg bool, args []string) {
	start(ts, append([]string{"demo"}, args...))
}

// startNode is "node NAME ARGS...", the same for strata node. Of several nodes each has a
// name, by which "signal" and "ended" know it.
func startNode(ts *testscript.TestScript, neg bool, args []string) {
	startProgram(ts, args[0], append([]string{"node"}, args[1:]...), "cluster token")
}

func start(ts *testscript.TestScript, args []string) {
	startProgram(ts, "", args, "strata copy")
}

// startProgram runs strata, and waits until it has printed what comes last.
func startProgram(ts *testscript.TestScript, name string, args []string, last string) {
	program, err := lookPath(ts.Getenv("PATH"), "strata")
	ts.Check(err)
	s := &testServer{cmd: exec.Command(program, args...), done: make(chan error, 1)}
	ts.Value(serverKey{}).(map[string]*testServer)[name] = s
	s.cmd.Args[0] = "strata" // as a shell does
	s.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "STRATA_DATA"} {
		s.cmd.Env = append(s.cmd.Env, name+"="+ts.Getenv(name))
	}
	stdout, err := s.cmd.StdoutPipe()
	ts.Check(err)
	s.cmd.Stderr = &s.stderr
	ts.Check(s.cmd.Start())
	var banner strings.Builder
	lines := bufio.NewReader(stdout)
	for !strings.Contains(banner.String(), last) {
		line, err := lines.ReadString('\n')
		banner.WriteString(line)
		if err != nil {
			s.cmd.Wait()
			ts.Fatalf("the server ended: %s%s", banner.String(), s.stderr.String())
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs("banner"+name), []byte(banner.String()), 0o600))
	go func() {
		io.Copy(io.Discard, lines)
		s.done <- s.cmd.Wait()
	}()
	ts.Defer(func() { s.cmd.Process.Kill() })
}

func lookPath(path, program string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join(dir, program); exec.Command(full).Err == nil {
			if _, err := os.Stat(full); err == nil {
				return full, nil
			}
		}
	}
	return "", exec.ErrNotFound
}

// signalServer is "signal TERM" or "signal HUP".
func signalServer(ts *testscript.TestScript, neg bool, args []string) {
	numbers := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}
	ts.Check(serverOf(ts, args, 1).cmd.Process.Signal(numbers[args[0]]))
}

// serverEnded is "ended": it waits for the server's end, which must be a
// success, and puts what it wrote to standard error into the file "log".
func serverEnded(ts *testscript.TestScript, neg bool, args []string) {
	s := serverOf(ts, args, 0)
	err := <-s.done
	ts.Check(os.WriteFile(ts.MkAbs("log"), s.stderr.Bytes(), 0o600))
	if (err != nil) != neg {
		ts.Fatalf("the server ended with %v: %s", err, s.stderr.String())
	}
}

// writeData is "data FILE SIZE OFFSET LENGTH", in KiB: a file of that size,
// sparse but for a pattern.
func writeData(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: data FILE SIZE OFFSET LENGTH")
	}
	n := func(i int) int64 {
		v := int64(0)
		for _, digit := range args[i] {
			v = v*10 + int64(digit-'0')
		}
		return v << 10
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(n(1)))
	p := make([]byte, n(3))
	for i := range p {
		p[i] = byte(i%251) + 1
	}
	_, err = f.WriteAt(p, n(2))
	ts.Check(err)
}

// exits is "exits CODE ARGS...": strata must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("strata", args[1:]...)
	code := "0"
	if e, ok := err.(*exec.ExitError); ok {
		code = string('0' + rune(e.ExitCode()))
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// replaceText is "replace FILE OLD NEW": it replaces a text in a file, to
// take out what differs from run to run.
func replaceText(ts *testscript.TestScript, neg bool, args []string) {
	p := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(p, args[1], args[2])), 0o600))
}
