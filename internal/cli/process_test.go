package cli

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
)

// TestSocketActivation passes a socket to a server as systemd does.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	peer.Need(t, "sh")
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "strata") // TestMain makes it the program
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c",
		`LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=nbd exec "$0" serve --control none --listen systemd:nbd 'mem("1M")'`, program)
	cmd.ExtraFiles = []*os.File{f}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := nbd.Dial(t.Context(), "nbd+unix:///?socket="+dir+"/s")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if size := c.Info().Size; size != 1<<20 {
		t.Errorf("size %d", size)
	}
	c.Close()
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v: %s", err, stderr.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "s")); err != nil {
		t.Errorf("the path that systemd owns: %v", err)
	}
}

// TestInterruptedCopy leaves no destination that it has made.
func TestInterruptedCopy(t *testing.T) {
	t.Parallel()
	dst := filepath.Join(t.TempDir(), "copy.img")
	signals := make(chan os.Signal)
	var stderr bytes.Buffer
	env := &Env{Stderr: &stderr, Getenv: os.Getenv, Signals: signals}
	code := make(chan int)
	go func() {
		code <- env.Run(t.Context(), []string{"copy", "--progress", "none", `delay(pattern("64M"), read="1h")`, dst})
	}()
	signals <- syscall.SIGINT
	if got := <-code; got != exitFailure || !strings.HasSuffix(stderr.String(), "strata: interrupted\n") {
		t.Errorf("exit code %d, errors %q", got, stderr.String())
	}
	if _, err := os.Stat(dst); !os.IsNotExist(err) {
		t.Errorf("the destination: %v", err)
	}
}

// TestInterruptedStart: a server that waits for a disk can be told to end.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	silent := filepath.Join(t.TempDir(), "silent")
	l, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	signals := make(chan os.Signal)
	var stderr bytes.Buffer
	env := &Env{Stderr: &stderr, Getenv: os.Getenv, Signals: signals}
	code := make(chan int)
	go func() {
		code <- env.Run(t.Context(), []string{"serve", "--control", "none", "--listen", "unix://" + silent + ".out",
			`nbd("nbd+unix:///?socket=` + silent + `")`})
	}()
	c, err := l.Accept() // and never say anything
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	if got := <-code; got != exitFailure || stderr.String() != "strata: interrupted\n" {
		t.Errorf("exit code %d, errors %q", got, stderr.String())
	}
	if _, err := os.Stat(silent + ".out"); !os.IsNotExist(err) {
		t.Errorf("the socket: %v", err)
	}
}
