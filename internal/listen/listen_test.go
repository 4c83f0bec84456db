package listen

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Address{
		"tcp://localhost:10809":      Default,
		"tcp://localhost":            Default,
		"tcp://:99":                  {Kind: TCP, Port: 99},
		"tcp://[::1]:7":              {Kind: TCP, Host: "::1", Port: 7},
		"tcp://[::1]":                {Kind: TCP, Host: "::1", Port: DefaultPort},
		"unix:///run/a%20b":          {Kind: Unix, Path: "/run/a b"},
		"unix:/run/s?mode=0660":      {Kind: Unix, Path: "/run/s", Mode: 0o660},
		"vsock://2:99":               {Kind: Vsock, CID: 2, Port: 99},
		"vsock://:99":                {Kind: Vsock, CID: AnyCID, Port: 99},
		"vsock://any":                {Kind: Vsock, CID: AnyCID, Port: DefaultPort},
		"systemd:":                   {Kind: Systemd},
		"systemd:disks":              {Kind: Systemd, Name: "disks"},
		"stdio:":                     {Kind: Stdio},
		"unix:///with%25percent%3fq": {Kind: Unix, Path: "/with%percent?q"},
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", s, got, err, want)
			continue
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q), the text of %q, = %+v, %v", got, s, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                          "want tcp://HOST:PORT",
		"localhost:10809":           "want tcp://HOST:PORT",
		"tcp:localhost":             "// is missing",
		"tcp://localhost:nbd":       `port "nbd" is not a number from 0 to 65535`,
		"tcp://localhost:65536":     "65535",
		"tcp://::1:4:z":             "in brackets",
		"tcp://host/name":           "only a host and a port",
		"unix://relative":           "must be absolute",
		"unix:///s?mode=9":          `mode "9" is not a number in octal`,
		"unix:///s?mode=01777":      "0777",
		"unix:///s?owner=me":        `unknown parameter "owner"`,
		"vsock://host:1":            `context "host"`,
		"vsock://2:x":               `port "x"`,
		"stdio:x":                   "nothing behind it",
		"unix:///" + long("x", 200): "the system allows 107",
	} {
		if a, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %+v, %v, want an error with %q", s, a, err, want)
		}
	}
}

func long(s string, n int) string { return strings.Repeat(s, n) }

func TestURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, export, clear, tls string }{
		{"tcp://localhost:10809", "", "nbd://localhost/", "nbds://localhost/"},
		{"tcp://localhost:10810", "a b/c", "nbd://localhost:10810/a%20b%2Fc", "nbds://localhost:10810/a%20b%2Fc"},
		{"tcp://0.0.0.0:10809", "d", "nbd://localhost/d", "nbds://localhost/d"},
		{"tcp://[::1]:5", "", "nbd://[::1]:5/", "nbds://[::1]:5/"},
		{"unix:///run/s", "", "nbd+unix:///?socket=/run/s", "nbds+unix:///?socket=/run/s"},
		{"unix:///run/a&b", "d", "nbd+unix:///d?socket=/run/a%26b", "nbds+unix:///d?socket=/run/a%26b"},
		{"vsock://any:3", "d", "nbd+vsock://1:3/d", "nbds+vsock://1:3/d"},
		{"stdio:", "d", "", ""},
	} {
		a, err := Parse(c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.URI(c.export, false); got != c.clear {
			t.Errorf("%s: URI(%q) = %q, want %q", c.address, c.export, got, c.clear)
		}
		if got := a.URI(c.export, true); got != c.tls {
			t.Errorf("%s: URI(%q) with TLS = %q, want %q", c.address, c.export, got, c.tls)
		}
	}
}

func open(t *testing.T, address string) []Socket {
	t.Helper()
	a, err := Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(sockets) })
	return sockets
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken := open(t, "tcp://127.0.0.1:0")[0].Address.String()
	inUse := "unix://" + dir + "/used"
	open(t, inUse)
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		taken:                       "listen at " + taken + ": address already in use",
		inUse:                       "another server listens there",
		"unix://" + dir + "/file":   "a file that is not a socket is in the way",
		"unix://" + dir + "/no/dir": "no such file or directory",
		"tcp://192.0.2.1:0":         "cannot assign requested address",
		"systemd:":                  "no socket was passed to this process",
		"stdio:":                    "a connection, not a place to listen at",
	} {
		a, err := Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), a); err == nil || !strings.Contains(err.Error(), want) {
			closeAll(s)
			t.Errorf("Open(%q): %v, want an error with %q", address, err, want)
		}
	}
}

func TestLocalhostIsBothLoopbacks(t *testing.T) {
	t.Parallel()
	sockets := open(t, "tcp://localhost:0")
	for _, s := range sockets {
		ip := s.Addr().(*net.TCPAddr).IP
		if !ip.IsLoopback() || s.Address.Port == 0 || s.Address.Port != sockets[0].Address.Port {
			t.Errorf("listens at %v, shown as %v", s.Addr(), s.Address)
		}
	}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		l.Close()
		if len(sockets) != 2 {
			t.Errorf("%d sockets, want one for each IP version", len(sockets))
		}
	}
}

func TestUnixMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	open(t, "unix://"+path+"?mode=0666")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Fatalf("mode %v, %v, want 0666", info.Mode(), err)
	}
}

func TestStaleUnixSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	s := open(t, "unix://"+path)[0]
	echo(t, s, "unix", path)
}

// echo sends a word through a connection to l and back.
func echo(t *testing.T, l net.Listener, network, address string) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		done <- err
	}()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "word" {
		t.Fatalf("got %q, %v", b, err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPassedNames(t *testing.T) {
	t.Parallel()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		getenv func(string) string
		want   string
	}{
		{env(), "error"},
		{env("LISTEN_FDS", "2", "LISTEN_PID", "8"), "error"},
		{env("LISTEN_FDS", "-2", "LISTEN_PID", "7"), "error"},
		{env("LISTEN_FDS", "99999999", "LISTEN_PID", "7"), "error"},
		{env("LISTEN_FDS", "2", "LISTEN_PID", "7"), "unknown unknown"},
		{env("LISTEN_FDS", "2", "LISTEN_PID", "7", "LISTEN_FDNAMES", "a:b"), "a b"},
		{env("LISTEN_FDS", "2", "LISTEN_PID", "7", "LISTEN_FDNAMES", "a"), "unknown unknown"},
	} {
		names, err := passedNames(c.getenv, 7)
		got := strings.Join(names, " ")
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestPassedSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	fd := dup(t, f)
	f.Close()
	passed, err := listenerOf(fd)
	if err != nil {
		t.Fatal(err)
	}
	if a := addressOf(passed.Addr(), Address{}); a.Path != path {
		t.Errorf("address %v, want the path %s", a, path)
	}
	echo(t, passed, "unix", path)
	passed.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the path that systemd owns: %v", err)
	}
}

func TestStandardOnPipes(t *testing.T) {
	t.Parallel()
	in, toIn := pipe(t)
	fromOut, out := pipe(t)
	c, err := Standard(in, out)
	if err != nil {
		t.Fatal(err)
	}
	go func() { toIn.Write([]byte("word")) }()
	var b [4]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(fromOut, b[:]); err != nil || string(b[:]) != "word" {
		t.Fatalf("got %q, %v", b, err)
	}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatalf("a deadline on a pipe: %v", err)
	}
	if _, err := c.Read(b[:]); !os.IsTimeout(err) {
		t.Errorf("read after the deadline: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestStandardOnSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l := open(t, "unix://"+path)[0]
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	in, err := accepted.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	out, err := accepted.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Standard(in, out)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*net.UnixConn); !ok {
		t.Errorf("a socket became a %T", c)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
