package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/internal/socket"
)

// A conn is one connection after the hellos, as both sides have it.
type conn struct {
	raw     net.Conn // what is closed, as TLS would wait for the partner
	inlet   inlet    // of raw
	in      *gulp
	out     *outbox
	limits  agreed
	timeout Limits // our own, for times

	once   sync.Once
	cause  error         // why it was closed; valid when closed is
	closed chan struct{} // closed by fail
	dog    chan struct{} // closed when the watchdog has left

	idle func()                   // called by the reader before it waits, or nil
	tick func(long time.Duration) // called by the watchdog, or nil

	ping     frame
	pinging  atomic.Bool // ping is in the outbox
	pingSent pingOwner
}

// A transport is a connection and what lies under it.
type transport struct {
	nc     net.Conn
	raw    net.Conn
	record *recordConn
	state  *tls.ConnectionState // nil without TLS
}

// overTLS returns t with TLS on it, after its handshake.
func overTLS(nc net.Conn, wrap func(net.Conn) *tls.Conn) (transport, error) {
	record := newRecordConn(nc)
	tc := wrap(record)
	if err := tc.Handshake(); err != nil {
		return transport{}, fmt.Errorf("TLS: %w", err)
	}
	state := tc.ConnectionState()
	return transport{nc: tc, raw: nc, record: record, state: &state}, nil
}

func plain(nc net.Conn) transport { return transport{nc: nc, raw: nc} }

// newConn takes t, which has no deadline any more.
func newConn(t transport, limits agreed, own Limits) *conn {
	c := &conn{
		raw: t.raw, limits: limits, timeout: own,
		closed: make(chan struct{}), dog: make(chan struct{}),
	}
	c.raw = socket.New(t.raw)
	c.inlet.Conn, c.inlet.before = c.raw, c.beforeWaiting()
	if t.record == nil {
		c.out = newOutbox(c.raw, nil, c.fail)
		c.in = newGulp(&c.inlet, &c.limits)
	} else {
		t.record.Conn = &c.inlet
		t.record.now, _ = c.raw.(prompter)
		c.out = newOutbox(t.nc, t.record, c.fail)
		c.in = newGulp(t.nc, &c.limits)
	}
	c.pingSent.c = c
	c.ping.owner = &c.pingSent
	return c
}

// beforeWaiting returns what the reader does each time before it may have to wait.
func (c *conn) beforeWaiting() func() {
	patient, _ := c.raw.(interface{ Patient(bool) })
	var seen uint64 // frames at the last sleep
	return func() {
		if c.idle != nil {
			c.idle()
		}
		c.out.flush()
		if patient != nil {
			// Where several come at a time more may be about to.
			n := c.in.frames.Load()
			patient.Patient(n > seen+1)
			seen = n
		}
	}
}

// start runs what runs beside the reader.
func (c *conn) start() {
	go c.out.loop()
	go c.watch()
}

// fail closes the connection, for the reason that is given first.
func (c *conn) fail(cause error) {
	c.once.Do(func() {
		c.cause = cause
		close(c.closed)
		c.raw.Close()
	})
}

// end releases everything once the reader has left. It returns why.
func (c *conn) end(err error) error {
	c.fail(describe(err))
	<-c.dog
	c.out.stop(c.cause)
	return c.cause
}

// describe says what an error of a socket means here.
func describe(err error) error {
	switch {
	case err == io.EOF:
		return errHungUp
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return ErrClosed
	}
	return err
}

var errHungUp = errors.New("the node has hung up")

// pingOwner knows when a ping has left.
type pingOwner struct{ c *conn }

func (p *pingOwner) frameSent(*frame, error) { p.c.pinging.Store(false) }

// sendPing puts a ping into the outbox, unless the last one is still there.
func (c *conn) sendPing() {
	if !c.pinging.CompareAndSwap(false, true) {
		return
	}
	c.ping.set(header{kind: kindPing}, nil, nil)
	if !c.out.put(&c.ping, prompt, false) {
		c.pinging.Store(false)
	}
}

// watch pings, and breaks the connection when the partner is silent, or is too slow
// with a frame. It counts ticks rather than time: when this process itself was
// stopped for a while, what the partner has sent meanwhile has yet to be read.
func (c *conn) watch() {
	defer close(c.dog)
	tick := min(c.limits.silence/4, c.timeout.Silence/4, c.timeout.Frame/4)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	silence := patience{limit: c.timeout.Silence, tick: tick}
	slow := patience{limit: c.timeout.Frame, tick: tick}
	stuck := patience{limit: c.timeout.Frame, tick: tick}
	var sent uint64
	for {
		select {
		case <-c.closed:
			return
		case <-ticker.C:
		}
		if c.tick != nil {
			c.tick(tick)
		}
		if n := c.out.sent.Load(); n == sent {
			c.sendPing()
		} else {
			sent = n
		}
		reading := c.inlet.reading.Load()
		switch {
		case silence.exhausted(reading, c.inlet.received.Load()):
			c.fail(fmt.Errorf("%w: nothing received for %v", ErrSilent, c.timeout.Silence))
		case slow.exhausted(reading && c.in.partial.Load(), c.in.frames.Load()):
			c.fail(fmt.Errorf("%w: a frame took longer than %v", ErrSilent, c.timeout.Frame))
		case stuck.exhausted(c.out.writing.Load(), c.out.rounds.Load()):
			c.fail(fmt.Errorf("%w: it takes nothing for %v", ErrSilent, c.timeout.Frame))
		}
	}
}

// A patience counts the ticks in which something is awaited and does not come.
type patience struct {
	limit, tick time.Duration
	seen        uint64
	waited      time.Duration
}

// exhausted is told with each tick whether something is awaited, and how much has
// come so far.
func (p *patience) exhausted(awaited bool, n uint64) bool {
	if !awaited || n != p.seen {
		p.seen, p.waited = n, 0
		return false
	}
	p.waited += p.tick
	return p.waited >= p.limit
}
