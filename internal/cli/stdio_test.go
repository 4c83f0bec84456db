package cli

import (
	"bytes"
	"context"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/nbd"
)

// socketPair makes a pair of connected sockets, as inetd does.
func socketPair(t *testing.T) (server *os.File, client net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "client")
	defer f.Close()
	client, err = net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "server"), client
}

// TestStdio serves one connection on standard input, as inetd starts it, and
// ends with it. Nothing but the protocol goes to standard output.
func TestStdio(t *testing.T) {
	t.Parallel()
	in, conn := socketPair(t)
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	env := &Env{Stdin: in, StdoutFile: out, Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }}
	code := make(chan int)
	go func() { code <- env.Run(t.Context(), []string{"serve", "--listen", "stdio:", `mem("1M")`}) }()
	d := &nbd.Dialer{
		Reconnect: nbd.Reconnect{Off: true},
		Connect:   func(context.Context) (net.Conn, error) { return conn, nil },
	}
	c, err := d.Dial(t.Context(), "nbd://stdio")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteAt(t.Context(), []byte("word"), 0, 0); err != nil {
		t.Error(err)
	}
	c.Close()
	if got := <-code; got != 0 || stdout.Len() > 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, output %q, errors %q", got, stdout.String(), stderr.String())
	}
}
