package config

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/strata-storage/strata/nbd"
)

// served is an export that is being served, or has been and still has
// connections. It holds a reference to its device.
type served struct {
	set  *Set
	root *instance

	mu       sync.Mutex
	export   *Export // the rules; a new configuration may change them
	conns    map[*nbd.Export]struct{}
	entering int // connections that are being admitted
	holds    int // of the device, by others than connections
	retired  bool
	gone     chan struct{} // closed when the reference has been given up
	err      error         // of closing the device; valid once gone

	views viewTable
}

func newServed(set *Set, root *instance, x *Export) *served {
	return &served{
		set: set, root: root, export: x,
		conns: make(map[*nbd.Export]struct{}), gone: make(chan struct{}),
	}
}

// fits reports whether connections that x would allow are those that s has
// allowed, to the same device.
func (s *served) fits(root *instance, x *Export) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root == root && s.export.ReadOnly == x.ReadOnly &&
		s.export.RequireTLS == x.RequireTLS && s.export.Allow.String() == x.Allow.String()
}

func (s *served) rules() *Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.export
}

func (s *served) setRules(x *Export) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.export = x
}

// count is the number of connections.
func (s *served) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// describe is what a client may know of the export.
func (s *served) describe() *nbd.Export {
	x := s.rules()
	return &nbd.Export{
		Name: x.Name, Description: x.Description, Device: s.root.dev,
		ReadOnly: x.ReadOnly, RequireTLS: x.RequireTLS,
	}
}

// enter reserves a place for a connection. ok is false if the export has been
// retired.
func (s *served) enter() (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := len(s.conns) + s.entering; {
	case s.retired:
		return false, nil
	case s.export.MaxConnections > 0 && n >= s.export.MaxConnections:
		return true, fmt.Errorf("export %q has %d connections, and no more are allowed at one time", s.export.Name, n)
	}
	s.entering++
	return true, nil
}

// admit makes a connection out of a reserved place, unless its prerun command
// objects: to the device, or the view of that name if it is not empty.
func (s *served) admit(ctx context.Context, view string, peer *nbd.Peer) (*nbd.Export, error) {
	rules := s.rules()
	if err := rules.runCommand(ctx, "prerun", rules.Prerun, peer); err != nil {
		s.leave(nil)
		return nil, err
	}
	postrun := func() {
		if err := rules.runCommand(context.Background(), "postrun", rules.Postrun, peer); err != nil {
			s.set.log().Warn("postrun failed", "export", rules.Name, "peer", peerText(peer), "error", err)
		}
	}
	x, closeView := s.describe(), func() {}
	if view != "" {
		var err error
		if x, closeView, err = s.describeView(ctx, view, false); err != nil {
			postrun()
			s.leave(nil)
			return nil, err
		}
	}
	x.Release = sync.OnceFunc(func() {
		closeView()
		postrun()
		s.leave(x)
	})
	s.mu.Lock()
	s.entering--
	s.conns[x] = struct{}{}
	s.mu.Unlock()
	return x, nil
}

// leave ends a connection, or with nil the attempt at one.
func (s *served) leave(x *nbd.Export) {
	s.mu.Lock()
	if x == nil {
		s.entering--
	} else {
		delete(s.conns, x)
	}
	idle := s.idle()
	s.mu.Unlock()
	if idle {
		s.finish()
	}
}

// idle reports whether the device is needed no more. The caller holds the
// mutex.
func (s *served) idle() bool {
	return s.retired && len(s.conns) == 0 && s.entering == 0 && s.holds == 0
}

// hold keeps the device open until unhold. It fails if the export has been
// retired.
func (s *served) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false
	}
	s.holds++
	return true
}

func (s *served) unhold() {
	s.mu.Lock()
	s.holds--
	idle := s.idle()
	s.mu.Unlock()
	if idle {
		s.finish()
	}
}

// retire lets no more connections in and gives up the device when the last
// one has gone.
func (s *served) retire() {
	s.mu.Lock()
	s.retired = true
	idle := s.idle()
	s.mu.Unlock()
	if idle {
		s.finish()
	}
}

// finish gives up the device. It is called once.
func (s *served) finish() {
	s.err = s.set.pool().release(s.root)
	if s.err != nil {
		s.set.log().Error("closing an export failed", "export", s.rules().Name, "error", s.err)
	}
	close(s.gone)
}

// Retired is an export that is not served any more but may have connections
// left. Its device is closed when the last of them has ended, unless another
// export uses it.
type Retired struct{ s *served }

// Name of the export.
func (r *Retired) Name() string { return r.s.rules().Name }

// Owns reports whether x, which Resolve has returned, is a connection to the
// export that has not ended.
func (r *Retired) Owns(x *nbd.Export) bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	_, ok := r.s.conns[x]
	return ok
}

// Wait waits until the last connection has ended and the device has been
// given up, and returns the error of closing it. When ctx ends first it
// returns the cause.
func (r *Retired) Wait(ctx context.Context) error {
	select {
	case <-r.s.gone:
		return r.s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Drain ends the connections to the export, which srv serves: each answers
// the requests that it has received. Then it waits as Wait does.
func (r *Retired) Drain(ctx context.Context, srv *nbd.Server) error {
	// A connection that was about to begin when the export was retired
	// appears late: look again until none is left.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		srv.Drain(func(c nbd.ConnStatus) bool { return r.Owns(c.Resolved) })
		select {
		case <-r.s.gone:
			return r.s.err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
