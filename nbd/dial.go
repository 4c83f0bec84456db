package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/socket"
)

// Replies is the form of the replies, and with it of the requests, that a
// client agrees on with a server. The newer one is used of what both know.
type Replies uint8

const (
	// ExtendedReplies: structured, and requests without payload may be
	// longer than 4 GiB.
	ExtendedReplies Replies = iota
	// StructuredReplies come in chunks, know holes and explain errors.
	StructuredReplies
	// SimpleReplies are all that the oldest servers know. There are no
	// metadata contexts.
	SimpleReplies
)

func (r Replies) String() string {
	switch r {
	case ExtendedReplies:
		return "extended"
	case StructuredReplies:
		return "structured"
	}
	return "simple"
}

// Limits of a Dialer.
const (
	// maxConns bounds Dialer.Conns.
	maxConns = 64
	// maxContexts bounds the metadata contexts of one connection.
	maxContexts = 64
	// maxListedContexts bounds the contexts in a list; what comes behind is ignored.
	maxListedContexts = 1024
	// defaultHandshake is the time for connecting and negotiating.
	defaultHandshake = 10 * time.Second
)

// A Dialer makes clients. The zero value is ready to use, and a Dialer may be
// used for many clients at once. It must not change afterwards.
type Dialer struct {
	// Conns is the number of connections of a client, by default 1 and at
	// most 64. More than one are used only if the server says that they
	// see each other's writes. Each request takes the one that has the
	// least to do.
	Conns int

	// Contexts are the metadata contexts to ask for on top of
	// block.Allocation. Info().Contexts holds those that the server has.
	Contexts []string

	// Replies is the newest form to ask for. By default all are tried.
	Replies Replies

	// Reconnect says what happens when a connection is lost.
	Reconnect Reconnect

	// Addresses, each a host or host:port, are where servers are that all have
	// the disk, in place of the address of a URI for TCP. One of them is used at
	// a time. When a connection is lost, or cannot be made, the next one is tried,
	// and a pause comes when all have been. One that says nothing for some seconds
	// is left out.
	Addresses []string

	// ExportName, if not nil, is called for every new connection, and returns
	// the name to ask for in place of that in the URI. Servers that share a disk
	// can so be told which connections are of the same client, and refuse what is
	// left of older ones; see the second assumption of [Client].
	ExportName func() string

	// Silence, if not 0, is after how long without a reply to anything, while
	// requests are in flight, a connection counts as lost.
	Silence time.Duration

	// Grows: the disk may have become larger when it is connected to anew. The
	// client goes on with the size that it had.
	Grows bool

	// Connect, if not nil, makes the connections in place of what the URI
	// says about the address. It is called for every new connection.
	Connect func(ctx context.Context) (net.Conn, error)

	// TLSConfig is used for URIs that demand TLS, with ServerName taken
	// from the URI if empty. If nil, the parameters of the URI count, see
	// [URI] and [TLSClientFiles].
	TLSConfig *tls.Config

	// HandshakeTimeout bounds connecting, TLS and negotiating together; 0
	// is 10 s.
	HandshakeTimeout time.Duration

	// Log is told of lost and new connections; nil is silence.
	Log *slog.Logger
}

// Reconnect is what a client does about a lost connection: it waits, with a
// time that doubles from First to Max and a random part, and tries again,
// until Limit has passed since the loss. Then the requests in flight fail.
// Later requests each cause one more attempt, so that a server that was away
// for long is found again, and fail at once if that does.
type Reconnect struct {
	// Off makes the loss of a connection final: every request fails.
	Off bool
	// Limit is how long a request may wait; 0 is 60 s.
	Limit time.Duration
	// First and Max bound the pauses; 0 is 50 ms and 5 s. The first attempt
	// comes without a pause.
	First, Max time.Duration
}

// Dial connects to the export that uri names with a zero Dialer.
func Dial(ctx context.Context, uri string) (*Client, error) {
	return new(Dialer).Dial(ctx, uri)
}

// List tells the exports of the server that uri names with a zero Dialer.
func List(ctx context.Context, uri string) ([]ExportInfo, error) {
	return new(Dialer).List(ctx, uri)
}

// Dial connects to the export that uri names. The context bounds the dialing
// only.
func (d *Dialer) Dial(ctx context.Context, uri string) (*Client, error) {
	t, err := d.target(uri)
	if err != nil {
		return nil, err
	}
	w, err := t.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	c := newClient(t, w)
	if w.export.flags&flagCanMultiConn == 0 {
		return c, nil
	}
	if err := c.widen(ctx, t.conns-1); err != nil {
		c.abort(err)
		return nil, err
	}
	return c, nil
}

// widen opens n more connections. What a server does not grant beyond the
// first is done without, unless it grants a different disk.
func (c *Client) widen(ctx context.Context, n int) error {
	wires := make([]*wire, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { wires[i], errs[i] = c.target.connect(ctx) })
	}
	wg.Wait()
	for i, w := range wires {
		if w != nil {
			if errs[i] = c.sameDisk(w.export); errs[i] != nil {
				w.nc.Close()
				wires[i] = nil
			}
		}
	}
	var changed *changedError
	if err := errors.Join(errs...); errors.As(err, &changed) || ctx.Err() != nil {
		for _, w := range wires {
			if w != nil {
				w.nc.Close()
			}
		}
		return err
	}
	for i, w := range wires {
		if w == nil {
			c.target.log.Warn("nbd: fewer connections than asked for", "server", c.target.name, "err", errs[i])
			continue
		}
		c.addLane(w)
	}
	return nil
}

// A target is a validated Dialer together with what it dials.
type target struct {
	*Dialer
	uri       *URI
	name      string // the URI, for messages
	conns     int
	handshake time.Duration
	limit     time.Duration
	first     time.Duration
	max       time.Duration
	log       *slog.Logger
	places    *places // nil if there is one
}

func (d *Dialer) target(uri string) (*target, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	if d.Conns < 0 || d.Conns > maxConns {
		return nil, fmt.Errorf("nbd: %d connections asked for, must be 1 to %d", d.Conns, maxConns)
	}
	if d.Replies > SimpleReplies {
		return nil, fmt.Errorf("nbd: Dialer.Replies is %d, which is no form of replies", d.Replies)
	}
	if d.HandshakeTimeout < 0 || d.Reconnect.Limit < 0 || d.Reconnect.First < 0 || d.Reconnect.Max < 0 || d.Silence < 0 {
		return nil, errors.New("nbd: a duration of the Dialer is negative")
	}
	if len(d.Contexts) >= maxContexts {
		return nil, fmt.Errorf("nbd: %d metadata contexts asked for, at most %d are allowed", len(d.Contexts), maxContexts-1)
	}
	for _, mc := range d.Contexts {
		if len(mc) > maxString || !utf8.ValidString(mc) || slices.Contains([]byte(mc), 0) {
			return nil, fmt.Errorf("nbd: metadata context %.40q is not UTF-8 of at most %d bytes without NUL", mc, maxString)
		}
	}
	t := &target{
		Dialer:    d,
		uri:       u,
		name:      u.String(),
		conns:     max(d.Conns, 1),
		handshake: orDefault(d.HandshakeTimeout, defaultHandshake),
		limit:     orDefault(d.Reconnect.Limit, 60*time.Second),
		first:     orDefault(d.Reconnect.First, 50*time.Millisecond),
		max:       orDefault(d.Reconnect.Max, 5*time.Second),
		log:       d.Log,
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.places, err = d.newPlaces(u)
	return t, err
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// contexts are the metadata contexts to negotiate.
func (t *target) contexts() []string {
	return append([]string{block.Allocation}, slices.DeleteFunc(slices.Clone(t.Contexts), func(mc string) bool {
		return mc == block.Allocation
	})...)
}

// connect makes a connection that is ready for requests. Errors do not name
// the target.
func (t *target) connect(ctx context.Context) (w *wire, err error) {
	if t.places != nil {
		return t.connectSomewhere(ctx)
	}
	return t.connectHere(ctx)
}

func (t *target) connectHere(ctx context.Context) (w *wire, err error) {
	err = t.negotiate(ctx, func(h *handshake) (err error) {
		w, err = h.enter()
		return err
	})
	return w, err
}

// negotiate makes a connection and lets f haggle over it. If that succeeds
// the connection lives on without a deadline, and belongs to f.
func (t *target) negotiate(ctx context.Context, f func(*handshake) error) error {
	ctx, end := context.WithTimeoutCause(ctx, t.handshake, &timeoutError{t.handshake})
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	nc, err := t.open(ctx)
	if err != nil {
		return withCause(ctx, unreachable(err))
	}
	// Cancelling interrupts reads and writes; TLS puts a layer on top of nc
	// but goes through its deadlines.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	h := &handshake{target: t, nc: nc, name: t.uri.Export}
	if t.ExportName != nil {
		h.name = t.ExportName()
	}
	greeted := t.places.expectGreeting(cancel)
	err = h.begin(ctx)
	greeted()
	if err == nil {
		err = f(h)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return withCause(ctx, tlsReason(err))
	}
	return nil
}

// withCause explains an error that comes of the context's end by that.
func withCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("no answer to the handshake within %v", e.after)
}
func (e *timeoutError) Timeout() bool { return true }
func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }

// open makes the bare connection.
func (t *target) open(ctx context.Context) (net.Conn, error) {
	switch {
	case t.Connect != nil:
		return t.Connect(ctx)
	case t.uri.Transport == VSock:
		return dialVSock(ctx, t.uri.Host, t.uri.Port)
	}
	d := net.Dialer{
		// A silent peer is noticed within half a minute, also when no
		// request is in flight.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4},
		Control:         controlTCP,
	}
	network, addr := t.uri.address()
	if t.places != nil {
		addr, d.Timeout = t.places.now(), silentPlace
	}
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if local, ok := nc.(*net.UnixConn); ok {
		// A smaller one, as the system may grant, works too.
		_ = local.SetWriteBuffer(localSendBuffer)
	}
	return socket.New(nc), nil
}

// localSendBuffer lets the payload of a long write leave in one go. Unix
// sockets, unlike TCP, never make the buffer larger themselves, and the usual
// one takes less than 256 KiB: client and server would wake each other several
// times for each request.
const localSendBuffer = 1 << 20
