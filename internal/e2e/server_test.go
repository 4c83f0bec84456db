package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/internal/cert"
)

// A server is a running "strata serve".
type server struct {
	t      testing.TB
	dir    string
	socket string
	tls    string // the directory of the certificates, if it demands TLS
	port   string // of TCP, if it listens there
	cmd    *exec.Cmd
	banner string
	log    lockedBuffer
	ended  chan struct{}
	err    error // once ended
}

// serve starts a server on a Unix socket, with working directory dir unless
// that is empty. It ends it with the test, when it must have nothing to
// complain about.
func serve(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	return serveAt(t, dir, filepath.Join(shortDir(t), "s"), args...)
}

func serveAt(t testing.TB, dir, socket string, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: dir, socket: socket, ended: make(chan struct{})}
	args = append([]string{"serve", "--control", "none", "--listen", "unix://" + socket}, args...)
	s.cmd = exec.Command(programPath(t), args...)
	s.cmd.Dir, s.cmd.Stderr = dir, &s.log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	for !strings.Contains(s.banner, "strata copy") {
		line, err := lines.ReadString('\n')
		s.banner += line
		if err != nil {
			s.cmd.Wait()
			t.Fatalf("strata serve ended: %s%s", s.banner, s.log.String())
		}
		if _, port, ok := strings.Cut(line, "://127.0.0.1:"); ok {
			s.port, _, _ = strings.Cut(strings.TrimSpace(port), "/")
		}
	}
	go func() {
		io.Copy(io.Discard, lines)
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(s.stop)
	return s
}

// serveTLS starts a server that demands TLS and certificates of its clients,
// on TCP too.
func serveTLS(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	pki := certificates(t, cert.Options{Clients: []string{"alice"}})
	args = append([]string{
		"--listen", "tcp://127.0.0.1:0",
		"--tls-cert", filepath.Join(pki, "server-cert.pem"),
		"--tls-key", filepath.Join(pki, "server-key.pem"),
		"--tls-client-ca", filepath.Join(pki, "ca-cert.pem"),
	}, args...)
	s := serve(t, dir, args...)
	s.tls = pki
	return s
}

// certificates makes an authority with its server and clients.
func certificates(t testing.TB, o cert.Options) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := cert.Make(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// uri is that of an export, on the Unix socket.
func (s *server) uri(name string) string {
	if s.tls != "" {
		return fmt.Sprintf("nbds+unix:///%s?socket=%s&tls-certificates=%s&tls-hostname=localhost", url.PathEscape(name), s.socket, s.tls)
	}
	return fmt.Sprintf("nbd+unix:///%s?socket=%s", url.PathEscape(name), s.socket)
}

// stop ends the server in good order.
func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.ended
	if log := s.log.String(); s.err != nil && !s.killed() || strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		s.t.Errorf("strata serve ended with %v: %s", s.err, log)
	}
}

// kill ends the server without warning.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

func (s *server) killed() bool {
	status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// A lockedBuffer may be read while a process writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
