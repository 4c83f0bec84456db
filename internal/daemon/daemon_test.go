package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench holds a server under test, its configuration and a gate at which
// the reads of the source slow() wait.
type bench struct {
	*Daemon
	t      *testing.T
	dir    string
	text   atomic.Pointer[string]
	gate   chan struct{} // a read passes when it can receive
	inGate chan struct{} // told when a read arrives
}

type slowOptions struct {
	_ struct{} `doc:"A disk whose reads wait."`
}

type slowDisk struct {
	block.Pass
	b *bench
}

func (d slowDisk) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.b.inGate <- struct{}{}
	select {
	case <-d.b.gate:
		return d.Pass.ReadAt(ctx, p, off, flags)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newBench prepares a server of what text says, which may mention $DIR.
func newBench(t *testing.T, text string) (*bench, Options) {
	b := &bench{t: t, dir: t.TempDir(), gate: make(chan struct{}), inGate: make(chan struct{}, 16)}
	b.configure(text)
	registry := config.Builtin()
	config.AddSource(registry, "slow", func(ctx context.Context, o slowOptions) (block.Device, error) {
		return slowDisk{block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}, b}, nil
	})
	loader := &config.Loader{Registry: registry}
	return b, Options{
		Load: func(ctx context.Context) (*config.Config, error) {
			return loader.LoadBytes(ctx, "test.star", []byte(*b.text.Load()))
		},
		Version: "test",
		Log:     slog.New(slog.DiscardHandler),
	}
}

// start is newBench with a server that runs until the end of the test.
func start(t *testing.T, text string) *bench {
	t.Helper()
	b, o := newBench(t, text)
	b.startWith(o)
	return b
}

// startWith starts the server; it runs until the end of the test.
func (b *bench) startWith(o Options) {
	b.t.Helper()
	d, err := Start(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Daemon = d
	b.t.Cleanup(func() {
		d.Abort()
		d.Wait()
	})
}

func (b *bench) configure(text string) {
	text = strings.ReplaceAll(text, "$DIR", b.dir)
	b.text.Store(&text)
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// dial connects to an export through the Unix socket s.
func (b *bench) dial(export string) *nbd.Client {
	b.t.Helper()
	d := &nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}}
	c, err := d.Dial(b.t.Context(), "nbd+unix:///"+export+"?socket="+b.path("s"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

const one = `
listen("unix://$DIR/s")
control("$DIR/c")
export("a", mem("1M"))
`

func read(t *testing.T, c *nbd.Client) error {
	t.Helper()
	return c.ReadAt(t.Context(), make([]byte, 4096), 0, 0)
}

func TestStatusAndMetrics(t *testing.T) {
	t.Parallel()
	b := start(t, one)
	c := b.dial("a")
	if err := c.WriteAt(t.Context(), make([]byte, 8192), 0, 0); err != nil {
		t.Fatal(err)
	}
	control := NewClient(b.path("c"))
	st, err := control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := st.Exports[0]
	if x.Name != "a" || x.Size != 1<<20 || x.Connections != 1 || x.Accepted != 1 || x.BytesWritten != 8192 || x.Device != `mem("1M")` {
		t.Errorf("export %+v", x)
	}
	if len(st.Connections) != 1 || st.Connections[0].Export != "a" || st.TLS != "off" || st.PID != os.Getpid() {
		t.Errorf("status %+v", st)
	}
	c.Close()
	if err := read(t, b.dial("a")); err != nil {
		t.Fatal(err)
	}
	metrics := b.get("/metrics")
	for _, want := range []string{
		`strata_info{tls="off",version="test"} 1`,
		`strata_written_bytes_total{export="a"} 8192`,
		`strata_read_bytes_total{export="a"} 4096`,
		`strata_connections_total{export="a"} 2`,
		`strata_export_info{device="mem(\"1M\")",export="a",read_only="false"} 1`,
		"process_resident_memory_bytes", "go_goroutines",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func (b *bench) get(path string) string {
	b.t.Helper()
	body, err := NewClient(b.path("c")).Open(b.t.Context(), http.MethodGet, path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer body.Close()
	p, err := io.ReadAll(body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(p)
}

func TestControlSocketIsPrivate(t *testing.T) {
	t.Parallel()
	b := start(t, one)
	info, err := os.Stat(b.path("c"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	for path, want := range map[string]string{
		"/v1/nothing": "404 page not found",
		"/v1/stop":    "Method Not Allowed",
	} {
		if err := NewClient(b.path("c")).Get(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("GET %s: %v", path, err)
		}
	}
}

func TestReloadKeepsWhatIsEqual(t *testing.T) {
	t.Parallel()
	b := start(t, one+`export("b", mem("1M"))`)
	same, changed := b.dial("a"), b.dial("b")
	b.configure(`
listen("unix://$DIR/s", "unix://$DIR/t")
control("$DIR/c")
export("a", mem("1M"))
export("b", mem("2M"))
export("c", mem("1M"))
`)
	change, err := NewClient(b.path("c")).Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(change.Added, []string{"c"}) || !slices.Equal(change.Changed, []string{"b"}) ||
		len(change.Removed) != 0 || !slices.Equal(change.Opened, []string{"unix://" + b.path("t")}) || change.Server {
		t.Errorf("change %+v", change)
	}
	if err := read(t, same); err != nil {
		t.Errorf("a connection to what did not change: %v", err)
	}
	for read(t, changed) == nil { // until the server has drained it
	}
	if size := b.dial("b").Info().Size; size != 2<<20 {
		t.Errorf("the export that changed has %d bytes", size)
	}
}

func TestReloadRefuses(t *testing.T) {
	t.Parallel()
	b := start(t, one)
	c := b.dial("a")
	for want, text := range map[string]string{
		"the control socket cannot move":        `listen("unix://$DIR/s"); control("$DIR/d"); export("a", mem("1M"))`,
		"a file that is not a socket":           one + `listen("unix://$DIR")`,
		"test.star:5:13: mem":                   one + `export("b", mem())`,
		"no such file or directory":             one + `export("b", file("$DIR/missing"))`,
		"stdio: cannot be added or removed":     one + `listen("stdio:")`,
		"nocert.pem: no such file or directory": one + `tls(cert = "$DIR/nocert.pem", key = "$DIR/nokey.pem")`,
		"payload limit 1000":                    one + `limits(payload = 1000)`,
	} {
		b.configure(text)
		_, err := b.Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if err := read(t, c); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
	if st := b.Status(); st.Reloads != 0 || len(st.Exports) != 1 || len(st.Listeners) != 1 {
		t.Errorf("something has changed: %+v", st)
	}
}

func TestReloadOfTLS(t *testing.T) {
	t.Parallel()
	b := start(t, one)
	c := b.dial("a")
	if _, err := cert.Make(b.dir, cert.Options{}); err != nil {
		t.Fatal(err)
	}
	b.configure(one + `tls(cert = "$DIR/server-cert.pem", key = "$DIR/server-key.pem", client_ca = "$DIR/ca-cert.pem")`)
	change, err := b.Reload(t.Context())
	if err != nil || !change.Server {
		t.Fatalf("change %+v, %v", change, err)
	}
	if err := read(t, c); err != nil {
		t.Errorf("the connection in clear text did not survive: %v", err)
	}
	if _, err := nbd.Dial(t.Context(), "nbd+unix:///a?socket="+b.path("s")); err == nil {
		t.Error("a new connection in clear text was accepted")
	}
	secure, err := nbd.Dial(t.Context(), "nbds+unix:///a?tls-hostname=localhost&tls-certificates="+b.dir+"&socket="+b.path("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	if n := len(b.Status().Connections); n != 2 {
		t.Errorf("%d connections, want the old one and the new one", n)
	}
}

func TestStopAnswersRequestsInFlight(t *testing.T) {
	t.Parallel()
	b := start(t, `listen("unix://$DIR/s"); control("$DIR/c"); export("slow", slow())`)
	c := b.dial("slow")
	answered, stopped := make(chan error), make(chan error)
	go func() { answered <- read(t, c) }()
	<-b.inGate
	go func() { stopped <- NewClient(b.path("c")).Stop(t.Context()) }()
	for { // until the server has heard it
		if _, err := b.Reload(t.Context()); errors.Is(err, ErrStopping) {
			break
		}
	}
	b.gate <- struct{}{}
	if err := <-answered; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := b.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if left, _ := filepath.Glob(b.path("?")); len(left) > 0 {
		t.Errorf("sockets are left: %v", left)
	}
}

func TestGraceAndAbort(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Daemon){
		"requests in flight did not end within 1ms": (*Daemon).Stop,
		"the server was told to end at once":        (*Daemon).Abort,
	} {
		b, o := newBench(t, `listen("unix://$DIR/s"); export("slow", slow())`)
		if o.Grace = time.Millisecond; strings.Contains(name, "told") {
			o.Grace = time.Hour
		}
		d, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c := b.dial("slow")
		failed := make(chan error)
		go func() { failed <- read(t, c) }()
		<-b.inGate
		end(d)
		if err := <-failed; err == nil {
			t.Error("a request that was cut off was answered")
		}
		if err := d.Wait(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the end: %v, want %q", err, name)
		}
	}
}

func TestStartFailsCleanly(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options, *bench){
		"metrics: ": func(o *Options, b *bench) { o.Metrics = "no port" },
		"control socket: listen at unix:///no/such/dir/c?mode=0600: no such file or directory": func(o *Options, b *bench) {
			b.configure(strings.ReplaceAll(one, "$DIR/c", "/no/such/dir/c"))
		},
		"missing":                   func(o *Options, b *bench) { b.configure(one + `export("b", file("$DIR/missing"))`) },
		"no connection on standard": func(o *Options, b *bench) { b.configure(`listen("stdio:"); export("a", mem("1M"))`) },
		"must be the only address":  func(o *Options, b *bench) { b.configure(one + `listen("stdio:")`) },
		"test.star:1:1: ":           func(o *Options, b *bench) { b.configure(")") },
	} {
		b, o := newBench(t, one)
		change(&o, b)
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if left, _ := filepath.Glob(b.path("?")); len(left) > 0 {
			t.Errorf("%s: sockets are left: %v", want, left)
		}
	}
}

func TestStdioEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	_, o := newBench(t, `listen("stdio:"); export("a", mem("1M"))`)
	ours, theirs := net.Pipe()
	o.Stdio = func() (net.Conn, error) { return theirs, nil }
	d, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}, Connect: func(context.Context) (net.Conn, error) { return ours, nil }}
	c, err := dialer.Dial(t.Context(), "nbd://stdio/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := read(t, c); err != nil {
		t.Error(err)
	}
	c.Close()
	if err := d.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	b, o := newBench(t, one)
	o.Metrics = peer.FreeAddress(t)
	d, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, code := range map[string]int{"/metrics": 200, "/v1/status": 404} {
		resp, err := client.Get("http://" + o.Metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%s: %s, want %d", path, resp.Status, code)
		}
	}
	d.Stop()
	if err := d.Wait(); err != nil {
		t.Error(err)
	}
	_, err = NewClient(b.path("c")).Status(t.Context())
	if want := "no server answers at the control socket " + b.path("c"); err == nil || err.Error() != want {
		t.Errorf("status after the end: %v, want %s", err, want)
	}
}

func TestNotifications(t *testing.T) {
	t.Parallel()
	b, o := newBench(t, one)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	o.Notify = SystemdNotifier(func(name string) string {
		if name == "NOTIFY_SOCKET" {
			return b.path("notify")
		}
		return ""
	})
	d, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	d.Stop()
	d.Wait()
	for _, want := range []string{"READY=1", "RELOADING=1\nMONOTONIC_USEC=", "READY=1", "STOPPING=1"} {
		p := make([]byte, 100)
		n, err := socket.Read(p)
		if err != nil || !strings.HasPrefix(string(p[:n]), want) {
			t.Errorf("systemd hears %q, %v, want %q", p[:n], err, want)
		}
	}
}

// A brokenListener fails as one does whose socket is gone.
type brokenListener struct{ accepts atomic.Int64 }

func (l *brokenListener) Accept() (net.Conn, error) {
	l.accepts.Add(1)
	return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", syscall.EBADF)}
}
func (l *brokenListener) Close() error   { return nil }
func (l *brokenListener) Addr() net.Addr { return &net.UnixAddr{Name: "broken"} }

// A reportWriter passes on what is written to it.
type reportWriter chan string

func (w reportWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// TestListenerFails: a listener that has failed for good is reported once and
// is not tried again; the others go on.
func TestListenerFails(t *testing.T) {
	t.Parallel()
	b, o := newBench(t, `listen("unix://$DIR/s"); control("$DIR/c"); export("a", mem("1M"))`)
	reports := make(reportWriter, 16)
	o.Log = slog.New(slog.NewTextHandler(reports, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.Daemon = d
	broken := &brokenListener{}
	address := listen.Address{Kind: listen.Unix, Path: "/broken"}
	d.mu.Lock()
	d.listen(address, []listen.Socket{{Listener: broken, Address: address}})
	d.mu.Unlock()
	if report := <-reports; !strings.Contains(report, "level=ERROR") || !strings.Contains(report, "bad file descriptor") {
		t.Error(report)
	}
	if slices.Contains(d.Addresses(), address) {
		t.Error("the server says that it listens there still")
	}
	b.dial("a").Close()
	d.Abort()
	d.Wait()
	if n := broken.accepts.Load(); n != 1 || len(reports) > 0 {
		t.Errorf("%d attempts and %d more reports, want one and none", n, len(reports))
	}
}
