// Package daemon is a running server: what a configuration asks for, opened
// and connected, until it is told to change or to stop.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/control"
	"github.com/strata-storage/strata/internal/ledger"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/nbd"
)

// Options of Start.
type Options struct {
	// Load returns what is to be served: at the start, and again with every
	// reload.
	Load func(ctx context.Context) (*config.Config, error)
	// Metrics is the TCP address, host:port, where metrics are served
	// without any protection; empty for only the control socket.
	Metrics string
	// Grace bounds how long requests in flight may take when the server
	// stops; 0 is 30 seconds.
	Grace time.Duration
	// Version is what the server says it is.
	Version string
	// Log is required.
	Log *slog.Logger
	// Notify is told the state in the form of sd_notify(3). Optional.
	Notify func(state string)
	// Stdio makes the connection for a listener at stdio:. Optional.
	Stdio func() (net.Conn, error)
}

// ErrStopping is the answer to requests for a change that come too late.
var ErrStopping = errors.New("the server is being stopped")

// A Daemon is a running server.
type Daemon struct {
	o       Options
	started time.Time
	set     *config.Set
	ledger  *ledger.Ledger
	http    control.Servers
	running sync.WaitGroup // accept loops
	serving sync.WaitGroup // connections
	stopped chan struct{}  // closed by Stop
	drained chan struct{}  // closed when no connection is left
	done    chan struct{}  // closed when nothing is left
	abort   context.CancelCauseFunc
	aborted context.Context

	reload sync.Mutex // held while the configuration changes

	mu        sync.Mutex
	config    *config.Config
	servers   []*nbd.Server // the last one gets new connections
	listeners map[listen.Address][]listen.Socket
	reloads   int
	stopping  bool
	err       error // of the end; valid once done
}

// Start serves what o.Load returns. When it returns nil everything is open
// and clients can connect. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Daemon, error) {
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	cfg, err := o.Load(ctx)
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		o: o, started: time.Now(), ledger: ledger.New(),
		stopped: make(chan struct{}), drained: make(chan struct{}), done: make(chan struct{}),
		listeners: map[listen.Address][]listen.Socket{},
		set:       &config.Set{Log: o.Log},
	}
	d.aborted, d.abort = context.WithCancelCause(context.Background())
	if err := d.open(ctx, cfg); err != nil {
		return nil, err
	}
	o.Notify("READY=1")
	return d, nil
}

// open opens everything, or nothing.
func (d *Daemon) open(ctx context.Context, cfg *config.Config) (err error) {
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
	}()
	server, err := d.newServer(cfg)
	if err != nil {
		return err
	}
	wanted, err := addressesOf(cfg)
	if err != nil {
		return err
	}
	sockets, err := openAll(ctx, wanted)
	if err != nil {
		return err
	}
	undo = append(undo, func() { closeAll(sockets) })
	controls, metrics, err := d.openHTTP(ctx, cfg)
	if err != nil {
		return err
	}
	undo = append(undo, func() { closeListeners(controls, metrics) })
	if _, err := d.set.Apply(ctx, cfg); err != nil {
		return err
	}
	undo = append(undo, func() { d.set.Close(context.WithoutCancel(ctx)) })
	d.config, d.servers = cfg, []*nbd.Server{server}
	if err := d.serveStdio(wanted); err != nil {
		return err
	}
	for address, list := range sockets {
		d.listen(address, list)
	}
	if controls != nil {
		d.http.Serve(controls, d.controlHandler())
	}
	if metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", metricsHandler(d))
		d.http.Serve(metrics, mux)
	}
	return nil
}

// openHTTP opens the control socket and the place for metrics.
func (d *Daemon) openHTTP(ctx context.Context, cfg *config.Config) (controls, metrics net.Listener, err error) {
	if cfg.Control != "" {
		s, err := listen.Open(ctx, listen.Address{Kind: listen.Unix, Path: cfg.Control, Mode: 0o600})
		if err != nil {
			return nil, nil, fmt.Errorf("control socket: %w", err)
		}
		controls = s[0]
	}
	if d.o.Metrics != "" {
		if metrics, err = net.Listen("tcp", d.o.Metrics); err != nil {
			closeListeners(controls)
			return nil, nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return controls, metrics, nil
}

func closeListeners(listeners ...net.Listener) {
	for _, l := range listeners {
		if l != nil {
			l.Close()
		}
	}
}

// Stop begins to end the server: it refuses new connections and answers the
// requests in flight, for at most Options.Grace. It does not wait.
func (d *Daemon) Stop() {
	d.mu.Lock()
	first := !d.stopping
	d.stopping = true
	d.mu.Unlock()
	if first {
		close(d.stopped)
		d.o.Notify("STOPPING=1")
		go d.end()
	}
}

// Abort ends the server without waiting for requests in flight. Those that
// were not answered are lost to their clients; no device is left half written
// by it.
func (d *Daemon) Abort() {
	d.abort(errors.New("the server was told to end at once"))
	d.Stop()
}

// Done is closed when the server has ended.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Wait waits for the end of the server and returns what went wrong with it:
// requests that had to be cut off, devices that could not be closed.
func (d *Daemon) Wait() error {
	<-d.done
	return d.err
}

// end takes everything down, what clients see first.
func (d *Daemon) end() {
	defer close(d.done)
	d.reload.Lock() // a reload in progress comes to its end
	defer d.reload.Unlock()
	d.mu.Lock()
	servers := d.servers
	for address, list := range d.listeners {
		closeSockets(list)
		delete(d.listeners, address)
	}
	d.mu.Unlock()
	d.resumeAll()
	ctx, cancel := context.WithTimeoutCause(d.aborted, d.o.Grace, fmt.Errorf("requests in flight did not end within %v", d.o.Grace))
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() {
			err := s.Shutdown(ctx)
			mu.Lock()
			defer mu.Unlock()
			d.err = errors.Join(d.err, err)
		})
	}
	all.Wait()
	d.serving.Wait()
	d.err = errors.Join(d.err, d.set.Close(context.Background()))
	close(d.drained)
	d.http.Close()
	d.running.Wait()
	d.abort(nil)
}
