package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
)

// A child is a process on a host, if one runs there.
type child struct {
	t    testing.TB
	name string
	host *namespace
	log  logBuffer

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended
}

// atEnd kills the process at the end of the test. Its log is shown and kept if the test has
// failed, or that is wanted.
func (c *child) atEnd() {
	c.t.Cleanup(func() {
		if c.t.Failed() && c.runs() {
			c.quit()
		}
		c.kill()
		if c.t.Failed() || os.Getenv(logsVar) != "" {
			keepLog(c.t, c.name, c.log.String())
		}
	})
}

// launch starts the process, with a variable of the environment if that is not empty.
func (c *child) launch(variable string, words ...string) {
	c.t.Helper()
	words = append(c.host.enter(), words...)
	cmd := exec.Command(peer.Need(c.t, words[0]), words[1:]...)
	if variable != "" {
		cmd.Env = append(os.Environ(), variable)
	}
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	must(c.t, cmd.Start())
	ended := make(chan struct{})
	c.mu.Lock()
	c.cmd, c.ended = cmd, ended
	c.mu.Unlock()
	go func() {
		err := cmd.Wait()
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		close(ended)
	}()
}

// runs reports whether there is a process.
func (c *child) runs() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		c.cmd.Process.Signal(s)
	}
}

// kill ends the process without warning.
func (c *child) kill() {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if ended != nil {
		c.signal(syscall.SIGKILL)
		<-ended
		c.forget()
	}
}

// forget forgets a process that has ended as it should.
func (c *child) forget() {
	c.mu.Lock()
	c.cmd = nil
	c.mu.Unlock()
}

// quit lets the process say what all its goroutines do, and end.
func (c *child) quit() {
	c.thaw()
	c.signal(syscall.SIGQUIT)
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
	}
}

// freeze lets the process do nothing, thaw go on.
func (c *child) freeze() { c.signal(syscall.SIGSTOP) }
func (c *child) thaw()   { c.signal(syscall.SIGCONT) }

// stop ends the process in good order.
func (c *child) stop() {
	c.t.Helper()
	if !c.runs() {
		return
	}
	c.signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.signal(syscall.SIGQUIT)
		c.t.Fatalf("%s does not stop", c.name)
	}
	if c.err != nil {
		c.t.Errorf("%s has stopped with an error: %v", c.name, c.err)
	}
	c.forget()
}

// clean fails the test if the process has said what it never should.
func (c *child) clean() {
	c.t.Helper()
	for _, word := range []string{"panic: ", "DATA RACE", "fatal error: "} {
		if strings.Contains(c.log.String(), word) {
			c.t.Errorf("%s says %q", c.name, word)
		}
	}
}

// voters is how many nodes vote on what the cluster agrees on, as the node with that data
// directory knows it.
func (c *child) voters(data string) int {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "node"))
	must(c.t, err)
	return strings.Count(string(text), "https://")
}

// keepLog shows the end of a log, and keeps all of it.
func keepLog(t testing.TB, name, text string) {
	path := filepath.Join(os.TempDir(), "strata-"+strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".log")
	err := os.WriteFile(path, []byte(text), 0o600)
	var short []string
	said, _, _ := strings.Cut(text, "\nSIGQUIT: ")
	for line := range strings.Lines(said) {
		if !strings.Contains(line, "level=DEBUG") && !strings.Contains(line, "etcd") {
			short = append(short, strings.TrimRight(line, "\n"))
		}
	}
	t.Logf("the log of %s, all of it in %s (%v):\n%s", name, path, err, tail(strings.Join(short, "\n"), 30))
}
