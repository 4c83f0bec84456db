package source

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strata-storage/strata/block"
)

// A process is a child that lives no longer than this process.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr tail
	exited chan struct{} // closed when the child is gone
	err    error         // of its exit; valid then
	asked  bool          // to end by SIGTERM, which is then no failure
}

// startProcess starts cmd, whose standard error goes to the log line by line.
func startProcess(cmd *exec.Cmd, name string) (*process, error) {
	p := &process{name: filepath.Base(name), cmd: cmd, exited: make(chan struct{})}
	p.stderr.name = p.name
	cmd.Stderr = &p.stderr
	// Something that the child has left behind may hold its standard error.
	cmd.WaitDelay = time.Second
	// A group of its own: a Ctrl-C is for us, and we end the child in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the child and waits for its end, on a thread that does nothing
// else: Linux kills the child at the end of the thread that started it.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	if err := p.cmd.Wait(); !errors.Is(err, exec.ErrWaitDelay) {
		p.err = err
	}
	p.stderr.flush()
	close(p.exited)
}

// wait reports whether the child ends within d.
func (p *process) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.exited:
		return true
	case <-t.C:
		return false
	}
}

// stop waits for the child to end, kills it after grace, and returns an error
// if it did not end well.
func (p *process) stop(grace time.Duration) error {
	if p.wait(grace) {
		if p.err == nil || p.asked && p.endedBy(syscall.SIGTERM) {
			return nil
		}
		return p.exit()
	}
	p.kill()
	return fmt.Errorf("%s has not ended within %v and was killed%s", p.name, grace, p.stderr.last())
}

// terminate asks the child to end.
func (p *process) terminate() {
	p.asked = true
	p.signal(syscall.SIGTERM)
}

// endedBy reports whether the child, which is gone, was ended by s.
func (p *process) endedBy(s syscall.Signal) bool {
	w, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && w.Signaled() && w.Signal() == s
}

// kill ends the child and what belongs to its group.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.exited: // the number may be somebody else's by now
	default:
		syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// exit describes the end of the child, which must be over.
func (p *process) exit() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return &exitError{fmt.Sprintf("%s has ended (%s)%s", p.name, how, p.stderr.last())}
}

// An exitError tells that a child is gone.
type exitError struct{ text string }

func (e *exitError) Error() string { return e.text }
func (e *exitError) Unwrap() error { return block.ErrIO }

const (
	tailLines = 5
	tailWidth = 500
)

// A tail writes lines to the log and keeps the last few.
type tail struct {
	name  string
	mu    sync.Mutex
	lines []string
	line  []byte // the beginning of one that is not complete
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range p {
		switch {
		case c == '\n':
			t.end()
		case len(t.line) < tailWidth:
			t.line = append(t.line, c)
		}
	}
	return len(p), nil
}

func (t *tail) end() {
	text := strings.ToValidUTF8(strings.TrimSpace(string(t.line)), "?")
	t.line = t.line[:0]
	if text == "" {
		return
	}
	slog.Info("exec: a child says", "child", t.name, "text", text)
	t.lines = append(t.lines, text)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// last is what the child said last, to be put behind an error.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return fmt.Sprintf("; it said %q", strings.Join(t.lines, "\n"))
}

// newCommand prepares argv, without the environment in which systemd would
// have told us about sockets.
func newCommand(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "LISTEN_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}
