package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/internal/control"
	"github.com/strata-storage/strata/internal/ledger"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/socket"
	"github.com/strata-storage/strata/nbd"
)

// Options are the options of Start.
type Options struct {
	// Cluster is how the node takes part. Its log is that of everything.
	Cluster cluster.Options
	// Join is what nodes are told that want to join at Cluster.Door.
	Join string
	// Listen is where NBD clients come.
	Listen []listen.Address
	// Limits and TLS are as for nbd.Server.
	Limits    nbd.Limits
	TLS       nbd.TLSMode
	TLSConfig *tls.Config
	// Control is the path of the control socket, none if it is empty.
	Control string
	// Metrics is the TCP address, host:port, where metrics are served without any
	// protection; empty for only the control socket.
	Metrics string
	// Grace bounds how long requests in flight may take when the node stops; 0 is 30
	// seconds.
	Grace time.Duration
	// Notify is told the state in the form of sd_notify(3). Optional.
	Notify func(state string)
}

// A Node is a running node.
type Node struct {
	o         Options
	log       *slog.Logger
	started   time.Time
	cluster   *cluster.Node
	server    *nbd.Server
	addresses []listen.Address
	sockets   []listen.Socket
	http      control.Servers
	ledger    *ledger.Ledger
	recovery  recovery
	running   sync.WaitGroup // accept loops, watch
	serving   sync.WaitGroup // connections
	transfers sync.WaitGroup // requests of the control socket that take long
	drained   chan struct{}  // closed when nothing is served any more
	done      chan struct{}  // closed when nothing is left
	abort     context.CancelCauseFunc
	// stopWatching ends watch.
	stopWatching context.CancelFunc
	aborted      context.Context
	// leaving is over when the node stops.
	leaving context.Context
	leave   context.CancelCauseFunc

	mu       sync.Mutex
	stopping bool
	err      error // of the end; valid once done
}

// Start makes or opens a node. When it returns nil clients can connect. ctx bounds the
// start only.
func Start(ctx context.Context, o Options) (_ *Node, err error) {
	o.Grace = cmp.Or(o.Grace, 30*time.Second)
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Cluster.Log == nil {
		o.Cluster.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		o: o, log: o.Cluster.Log, started: time.Now(), ledger: ledger.New(),
		drained: make(chan struct{}), done: make(chan struct{}),
	}
	n.aborted, n.abort = context.WithCancelCause(context.Background())
	n.leaving, n.leave = context.WithCancelCause(n.aborted)
	if err := n.open(ctx); err != nil {
		n.abort(err)
		n.closeSockets()
		return nil, err
	}
	o.Notify("READY=1")
	return n, nil
}

// open opens everything. What it has opened when it fails is closed by closeSockets.
func (n *Node) open(ctx context.Context) (err error) {
	if err := n.o.Limits.Validate(); err != nil {
		return err
	}
	for _, a := range n.o.Listen {
		s, err := listen.Open(ctx, a)
		if err != nil {
			return err
		}
		n.sockets = append(n.sockets, s...)
	}
	metrics, err := n.openMetrics(ctx)
	if err != nil {
		return err
	}
	if n.cluster, err = cluster.Start(ctx, n.o.Cluster); err == nil {
		n.prepare()
		err = n.openControl(ctx)
	}
	if err != nil {
		if metrics != nil {
			metrics.Close()
		}
		return err
	}
	watching, stop := context.WithCancel(context.Background())
	n.stopWatching = stop
	n.running.Go(func() { n.watch(watching) })
	n.running.Go(func() {
		select {
		case <-n.cluster.Over():
			n.abort(n.cluster.Err())
			n.Stop()
		case <-watching.Done():
		}
	})
	for _, s := range n.sockets {
		n.running.Go(func() { n.accept(s) })
	}
	if metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", metricsHandler(n))
		n.http.Serve(metrics, mux)
	}
	return nil
}

// prepare makes what serves clients.
func (n *Node) prepare() {
	n.server = &nbd.Server{Exports: Exports{n.cluster}, Limits: n.o.Limits, TLS: n.o.TLS, TLSConfig: n.o.TLSConfig, Log: n.log}
	n.server.Ended = func(c nbd.ConnStatus) { n.ledger.Close(n.server, c) }
	for _, s := range n.sockets {
		if !slices.Contains(n.addresses, s.Address) { // a name has several
			n.addresses = append(n.addresses, s.Address)
		}
	}
}

func (n *Node) openMetrics(ctx context.Context) (net.Listener, error) {
	if n.o.Metrics == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", n.o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return l, nil
}

// openControl opens the control socket, of which nobody else can have the path, as the
// data directory is locked.
func (n *Node) openControl(ctx context.Context) error {
	if n.o.Control == "" {
		return nil
	}
	s, err := listen.Open(ctx, listen.Address{Kind: listen.Unix, Path: n.o.Control, Mode: 0o600})
	if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.o.Grace)
		defer cancel()
		return errors.Join(fmt.Errorf("control socket: %w", err), n.cluster.Close(end))
	}
	n.http.Serve(s[0], n.controlHandler())
	return nil
}

func (n *Node) closeSockets() {
	for _, s := range n.sockets {
		s.Close()
	}
}

// accept hands connections to the server until s is closed.
func (n *Node) accept(s listen.Socket) {
	err := nbd.Accept(n.aborted, s, n.log, func(conn net.Conn) {
		if !n.serve(conn) {
			conn.Close()
		}
	})
	if errors.Is(err, net.ErrClosed) || n.aborted.Err() != nil {
		return
	}
	s.Close()
	n.log.Error("a listener has failed: nobody can connect through it any more", "listener", s.Address.String(), "error", err)
}

// serve serves a connection, unless the node is stopping.
func (n *Node) serve(conn net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return false
	}
	n.serving.Go(func() {
		c := socket.New(conn)
		n.server.ServeConn(withEnd(n.aborted, func() { c.Close() }), c) // logs its end itself
	})
	return true
}

// Cluster is the part of the node that takes part in the cluster.
func (n *Node) Cluster() *cluster.Node { return n.cluster }

// Addresses are those at which NBD clients come, with the ports that the system chose.
func (n *Node) Addresses() []listen.Address { return n.addresses }

// Stop begins to end the node: it refuses new connections, answers the requests in
// flight, for at most Options.Grace, and hands its volumes over to other nodes. It does
// not wait.
func (n *Node) Stop() {
	n.mu.Lock()
	first := !n.stopping
	n.stopping = true
	n.mu.Unlock()
	if first {
		n.leave(errors.New("the node stops"))
		n.o.Notify("STOPPING=1")
		n.log.Info("the node stops: it answers the requests in flight, then it hands its volumes over", "grace", n.o.Grace)
		logsStop(n.log)
		go n.end()
	}
}

// Abort ends the node without waiting for requests in flight. Those that were not
// answered are lost to their clients.
func (n *Node) Abort() {
	n.abort(errors.New("the node was told to end at once"))
	n.Stop()
}

// Done is closed when the node has ended.
func (n *Node) Done() <-chan struct{} { return n.done }

// Wait waits for the end of the node and returns what went wrong with it.
func (n *Node) Wait() error {
	<-n.done
	return n.err
}

// handOverTime bounds how long it takes to hand volumes over, after the requests in flight
// may have taken all of the grace.
const handOverTime = 15 * time.Second

// transfer returns the context of a request of the control socket that may take long: it
// ends with the node, which then waits until done is called, so that an import can take back
// what it has begun.
func (n *Node) transfer(r *http.Request) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(n.leaving, func() { cancel(context.Cause(n.leaving)) })
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return ctx, func() { stop(); cancel(nil) }
	}
	n.transfers.Add(1)
	return ctx, func() { stop(); cancel(nil); n.transfers.Done() }
}

// awaitTransfers waits for the end of all that transfer has begun, or of ctx.
func (n *Node) awaitTransfers(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		n.transfers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// handOver gives volumes to other nodes, and leaves the cluster.
func (n *Node) handOver() error {
	ctx, cancel := context.WithTimeout(n.aborted, handOverTime)
	defer cancel()
	return n.cluster.Close(ctx)
}

// end takes everything down, what clients see first.
func (n *Node) end() {
	defer close(n.done)
	n.closeSockets()
	ctx, cancel := context.WithTimeoutCause(n.aborted, n.o.Grace, fmt.Errorf("requests in flight did not end within %v", n.o.Grace))
	defer cancel()
	n.err = n.server.Shutdown(ctx)
	n.serving.Wait()
	n.awaitTransfers(ctx)
	n.stopWatching()
	n.err = errors.Join(n.err, n.handOver())
	if why := n.cluster.Err(); why != nil {
		n.err = why // all else follows from that
	}
	close(n.drained)
	n.http.Close()
	n.running.Wait()
	n.abort(nil)
	if n.err == nil {
		n.log.Info("the node has stopped, and its volumes can be served by others at once")
	}
}
