package lock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/strata-storage/strata/internal/clock"
)

// DialOptions are the options of Dial.
type DialOptions struct {
	// TLS, if not nil, is how to speak TLS. ServerName is that of the address
	// if it is empty.
	TLS *tls.Config
	// Connect opens a connection; nil is that of net.Dialer.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock is the time; nil is that of the system, which also counts the time
	// that the machine sleeps.
	Clock Clock
}

const (
	// A client believes in its lease for 9 tenths of it, so that clocks may
	// differ in speed by a tenth.
	leaseMargin = 10
	// renewals is how many renewals there are in a lease.
	renewals = 4
	// connectTime bounds the time to get a connection, retryFirst and retryLast
	// are the pauses between attempts.
	connectTime = 5 * time.Second
	retryFirst  = 10 * time.Millisecond
	retryLast   = time.Second
)

// Dial returns the lock of that name on the Server at the TCP address HOST:PORT,
// for one more party. It fails if the server cannot be reached at once.
//
// Later a connection that breaks is made again. Lock waits for that; a hold
// outlives it as long as its lease lasts, also if the server was restarted
// meanwhile. A server that refuses this party makes Lock fail.
func Dial(ctx context.Context, address, name string, o DialOptions) (Lock, error) {
	if name == "" || len(name) > MaxName {
		return nil, fmt.Errorf("lock server %s: the name of a lock has 1 to %d bytes, not %d", address, MaxName, len(name))
	}
	if o.Connect == nil {
		o.Connect = new(net.Dialer).DialContext
	}
	if o.Clock == nil {
		o.Clock = clock.Boot{}
	}
	if o.TLS != nil && o.TLS.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("lock server: %w", err)
		}
		o.TLS = o.TLS.Clone()
		o.TLS.ServerName = host
	}
	c := &client{
		o: o, address: address, name: name,
		turn: newTurn(), raising: newTurn(), party: newPartyID(),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	s, err := c.connect(ctx)
	if err != nil {
		c.cancel(err)
		return nil, err
	}
	go c.run(s)
	return c, nil
}

// A client is one party. Its mutex guards its hold too.
type client struct {
	o       DialOptions
	address string
	name    string
	ctx     context.Context // ends with Close
	cancel  context.CancelCauseFunc
	wake    chan struct{}
	ended   chan struct{}
	turn    turn
	raising turn

	mu      sync.Mutex
	shut    bool
	party   partyID // another one after a loss
	last    uint64  // generation of the last hold, 0 if it was lost
	seen    memory
	hold    *clientHold
	want    chan answer   // has room for one; nil if nobody wants the lock
	owed    time.Duration // until when the server should hear that the lock was unlocked
	session *session      // nil without a connection
	trouble error         // why there is none
	ticking func() bool   // stops the next tick; nil if there is none
}

// An answer to a Lock.
type answer struct {
	hold *clientHold
	err  error
}

// A session is a connection after the greeting.
// now is the time.
func (c *client) now() time.Duration { return c.o.Clock.Now() }

// explain says what this is about.
func (c *client) explain(err error) error {
	return fmt.Errorf("lock %q on server %s: %w", c.name, c.address, err)
}

// connect makes a session. Its errors are about this attempt; a refusal is one
// that another attempt would not change.
// firstCause is why ctx has ended, or err if it has not.
// tlsError makes a refusal of what the peer's certificate or alert says.
// greet says hello and makes s the session.
// run receives, and connects when that is necessary.
func (c *client) run(s *session) {
	defer close(c.ended)
	pause := retryFirst
	for {
		if s != nil {
			pause = retryFirst
			c.detach(s, c.listen(s))
			s = nil
		}
		if !c.needed() {
			select {
			case <-c.wake:
				continue
			case <-c.ctx.Done():
				return
			}
		}
		var err error
		if s, err = c.connect(c.ctx); err == nil {
			continue
		}
		s = nil
		c.failed(err)
		tick := make(chan struct{})
		stop := c.o.Clock.AfterFunc(pause, func() { close(tick) })
		pause = min(2*pause, retryLast)
		select {
		case <-tick:
		case <-c.ctx.Done():
			stop()
			return
		}
	}
}

// needed says whether there must be a connection.
func (c *client) needed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.shut && (c.hold != nil || c.want != nil || c.now() < c.owed)
}

// failed notes that an attempt to connect has failed.
func (c *client) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = err
	var no *refusal
	if errors.As(err, &no) {
		c.owed = 0
		c.answer(answer{err: err})
	}
}

// detach ends a session that has failed.
func (c *client) detach(s *session, err error) {
	s.cut()
	<-s.done
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.session, c.trouble = nil, c.explain(err)
	}
}

// listen does what the server says until the connection ends.
func (c *client) handle(s *session, m message) error {
	h := c.hold
	if c.session != s {
		return ErrClosed
	}
	switch m.kind {
	case msgGranted:
		return c.granted(s, m)
	case msgRenewed:
		if !s.waits {
			return fmt.Errorf("%w: the answer to nothing", errProtocol)
		}
		s.waits = false
		if h != nil && m.generation == 0 {
			c.lose("the server has ended its lease")
		} else {
			c.prove(s.renewed)
		}
	case msgRaised:
		if h != nil {
			h.generation = max(h.generation, m.generation)
			c.seen.greatest = h.generation
			if h.raise != nil && h.generation > h.raise.above {
				h.raised(nil)
			}
		}
	case msgContended:
		if h != nil {
			h.notice(m.contended)
		}
	case msgLost:
		if h != nil && m.generation == h.generation {
			c.lose("the server has ended its lease")
		}
	case msgRefused:
		err := &refusal{m.text}
		c.answer(answer{err: c.explain(err)})
		return err
	default:
		return fmt.Errorf("%w: a message of kind %#x", errProtocol, byte(m.kind))
	}
	return nil
}

// granted makes a hold of the lock that the server has given.
func (c *client) granted(s *session, m message) error {
	if c.hold != nil || m.generation == 0 {
		return fmt.Errorf("%w: the lock was granted twice, or with generation 0", errProtocol)
	}
	if c.want == nil { // nobody wants it any more
		s.send(message{kind: msgRelease, generation: m.generation})
		return nil
	}
	if err := c.seen.forgotten(m.generation); err != nil {
		s.send(message{kind: msgRelease, generation: m.generation})
		c.answer(answer{err: c.explain(err)})
		return nil
	}
	h := &clientHold{hold: newHold(&c.mu, m.generation, c.last), client: c}
	h.notice(m.contended)
	h.deadline = max(s.proved, s.took) + s.validity()
	if c.now() >= h.deadline {
		c.party = newPartyID()
		return errors.New("the lock came too late")
	}
	c.hold = h
	c.prove(s.proved)
	c.answer(answer{hold: h})
	return nil
}

// validity is how long a lease is valid on this side.
// prove notes that what was sent at that time was answered by the server: the
// lease has lasted since then.
func (c *client) prove(sent time.Duration) {
	s := c.session
	s.proved = max(s.proved, sent)
	h := c.hold
	if h == nil {
		return
	}
	h.deadline = max(h.deadline, s.proved+s.validity())
	if h.expire != nil {
		h.expire()
	}
	h.expire = c.o.Clock.AfterFunc(max(0, h.deadline-c.now()), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		h.check()
	})
}

// answer ends the wait of Lock.
func (c *client) answer(a answer) {
	if c.want != nil {
		c.want <- a
		c.want = nil
	}
}

// take asks for the lock.
func (c *client) take() {
	c.session.took = c.now()
	c.session.send(message{kind: msgTake})
	c.tick()
}

// tick sees to it that the lease is renewed, and that somebody who waits is
// known to be alive. A server that does not answer has no connection any more.
func (c *client) tick() {
	s := c.session
	if c.ticking != nil || s == nil || c.hold == nil && c.want == nil {
		return
	}
	if s.waits {
		s.cut()
		return
	}
	s.waits, s.renewed = true, c.now()
	s.send(message{kind: msgRenew})
	c.ticking = c.o.Clock.AfterFunc(s.lease/renewals, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ticking = nil
		c.tick()
	})
}

// lose ends the hold by a loss. The party goes on as another one, because the
// server may still think that this one has the lock.
func (c *client) lose(why string) {
	h := c.hold
	h.lose(why)
	h.over()
	c.last, c.party = 0, newPartyID()
	if c.session != nil {
		c.session.cut()
		c.session = nil
	}
	c.turn.give()
}

// poke makes run look whether it must connect.
func (c *client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *client) Lock(ctx context.Context) (Hold, error) {
	if err := c.turn.take(ctx); err != nil {
		return nil, err
	}
	h, err := c.wait(ctx)
	if err != nil {
		c.turn.give()
		return nil, err
	}
	return h, nil
}

func (c *client) wait(ctx context.Context) (*clientHold, error) {
	c.mu.Lock()
	if c.shut {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	want := make(chan answer, 1)
	c.want = want
	if c.session != nil {
		c.take()
	}
	c.poke()
	c.mu.Unlock()

	var err error
	select {
	case a := <-want:
		return a.hold, a.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.turn.closed:
		err = ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case a := <-want: // at the same moment
		return a.hold, a.err
	default:
	}
	c.want = nil
	if c.session != nil {
		c.session.send(message{kind: msgCancel})
	} else if c.trouble != nil {
		err = fmt.Errorf("%w; %w", err, c.trouble)
	}
	return nil, err
}

func (c *client) Close() error {
	c.mu.Lock()
	if c.shut {
		c.mu.Unlock()
		return ErrClosed
	}
	c.shut = true
	close(c.turn.closed)
	s := c.session
	c.session = nil
	if s != nil && c.hold != nil {
		s.send(message{kind: msgRelease, generation: c.hold.generation})
	}
	if s != nil {
		s.finish()
		defer c.o.Clock.AfterFunc(time.Second, s.cut)()
	}
	if c.hold != nil {
		c.lose("it was closed")
	}
	if c.ticking != nil {
		c.ticking()
	}
	c.mu.Unlock()
	c.cancel(ErrClosed)
	<-c.ended
	return nil
}
