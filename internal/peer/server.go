package peer

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Start runs a server that stays in the foreground, and waits until it listens
// at the Unix socket that args name as SOCKET. It returns the path of the
// socket. The server ends with the test, and what it has said is in the log of
// one that fails.
func Start(t testing.TB, program string, args ...string) (socket string) {
	t.Helper()
	path := Need(t, program)
	socket = filepath.Join(shortDir(t), "s")
	args = append([]string(nil), args...)
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "SOCKET", socket)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s: %s", program, log.String())
		}
	})
	await(t, program, ended, func() bool { return listens(socket) })
	return socket
}

// Await waits until somebody listens at a Unix socket.
func Await(t testing.TB, socket string) {
	t.Helper()
	await(t, "the server at "+socket, nil, func() bool { return listens(socket) })
}

func listens(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// StartNBDServer runs nbd-server, which must be configured by a file, and
// returns the path of its Unix socket. It serves file as "vm", and read-only
// as "other".
func StartNBDServer(t testing.TB, file string) (socket string) {
	t.Helper()
	path := Need(t, "nbd-server")
	// It listens on TCP as well, whatever it is told, and ends if somebody
	// else has been given the port meanwhile.
	for range 5 {
		dir := shortDir(t)
		socket = filepath.Join(dir, "s")
		config, pid := filepath.Join(dir, "config"), filepath.Join(dir, "pid")
		text := fmt.Sprintf("[generic]\nallowlist = true\nunixsock = %s\nlistenaddr = 127.0.0.1\nport = %s\n"+
			"[vm]\nexportname = %s\nflush = true\nfua = true\ntrim = true\n[other]\nexportname = %s\nreadonly = true\n",
			socket, strings.TrimPrefix(FreeAddress(t), "127.0.0.1:"), file, file)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// Its option -d, for the foreground, serves a single connection.
		if out, err := exec.Command(path, "-C", config, "-p", pid).CombinedOutput(); err != nil {
			t.Fatalf("nbd-server: %v: %s", err, out)
		}
		id := awaitPID(t, pid)
		ended := false
		await(t, "nbd-server", nil, func() bool {
			ended = syscall.Kill(id, 0) != nil
			return ended || listens(socket)
		})
		if !ended {
			t.Cleanup(func() { syscall.Kill(id, syscall.SIGTERM) })
			return socket
		}
	}
	t.Fatal("nbd-server ends at once, at five ports")
	return ""
}

// FreeAddress returns an address on the loopback that nobody listens to. It is none of those
// that the system gives to connections, so that it stays free.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 20_000 {
		a := fmt.Sprintf("127.0.0.1:%d", 10_000+lastPort.Add(1)%20_000)
		if l, err := net.Listen("tcp", a); err == nil {
			l.Close()
			return a
		}
	}
	t.Fatal("there is no free port")
	return ""
}

var lastPort atomic.Uint32

func init() { lastPort.Store(uint32(os.Getpid()) * 97) }

// awaitPID waits for the file in which a daemon leaves its process id.
func awaitPID(t testing.TB, path string) (id int) {
	t.Helper()
	await(t, "the daemon", nil, func() bool {
		text, err := os.ReadFile(path)
		if err == nil {
			id, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	})
	return id
}

// await waits until a program that has been started is ready.
func await(t testing.TB, program string, ended <-chan struct{}, ready func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("%s has ended before it was ready", program)
		case <-late.C:
			t.Fatalf("%s is not ready after a minute", program)
		}
	}
}

// shortDir is a directory with a path that is short enough for sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
