package lock

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

type session struct {
	*link
	party   partyID
	lease   time.Duration
	proved  time.Duration // when what was answered last was sent
	took    time.Duration // when the lock was asked for
	renewed time.Duration // when the renewal was sent that has no answer yet
	waits   bool          // there is one
}

func (c *client) connect(ctx context.Context) (s *session, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := errors.New("no answer in time")
	defer c.o.Clock.AfterFunc(connectTime, func() { cancel(late) })()
	defer context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })()
	conn, err := c.o.Connect(ctx, "tcp", c.address)
	if err != nil {
		return nil, c.explain(firstCause(ctx, err))
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if c.o.TLS != nil {
		t := tls.Client(conn, c.o.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, c.explain(firstCause(ctx, tlsError(err)))
		}
		conn = t
	}
	s = &session{link: newLink(conn)}
	if err := c.greet(s); err != nil {
		s.cut()
		<-s.done
		return nil, c.explain(firstCause(ctx, err))
	}
	return s, nil
}

func firstCause(ctx context.Context, err error) error {
	return cmp.Or(context.Cause(ctx), err)
}

func tlsError(err error) error {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	if errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &record) {
		return &refusal{err.Error()}
	}
	return err
}

func (c *client) greet(s *session) error {
	c.mu.Lock()
	hello := message{kind: msgHello, version: wireVersion, party: c.party, text: c.name}
	if c.hold != nil {
		hello.generation = c.hold.generation
	}
	s.party, s.proved = c.party, c.now()
	c.mu.Unlock()
	s.send(hello)
	m, err := receive(s.conn)
	switch {
	case errors.Is(err, errProtocol):
		return &refusal{err.Error()}
	case err != nil:
		return err
	case m.kind == msgRefused:
		return &refusal{m.text}
	case m.kind != msgWelcome || m.version != wireVersion || m.lease < MinLease || m.lease > MaxLease:
		return &refusal{fmt.Sprintf("%v: message %#x of version %d with a lease of %v", errProtocol, byte(m.kind), m.version, m.lease)}
	}
	s.lease = m.lease
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return ErrClosed
	}
	if s.party != c.party {
		return errors.New("the lock was lost meanwhile")
	}
	c.session, c.owed, c.trouble = s, 0, nil
	switch h := c.hold; {
	case h != nil && m.generation == 0:
		c.lose("the server has ended its lease")
		return nil
	case h != nil:
		h.generation = max(h.generation, m.generation)
		c.seen.greatest = h.generation
		c.prove(s.proved)
		if h.raise != nil {
			s.send(message{kind: msgRaise, generation: h.generation, above: h.raise.above})
		}
	case m.generation != 0:
		s.send(message{kind: msgRelease, generation: m.generation})
	}
	if c.want != nil {
		c.take()
	}
	c.tick()
	return nil
}

func (c *client) listen(s *session) error {
	for {
		m, err := receive(s.conn)
		if err != nil {
			return err
		}
		c.mu.Lock()
		err = c.handle(s, m)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (s *session) validity() time.Duration { return s.lease - s.lease/leaseMargin }
