package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/socket"
	"github.com/strata-storage/strata/nbd"
)

// addressesOf are the addresses of a configuration.
func addressesOf(cfg *config.Config) ([]listen.Address, error) {
	var list []listen.Address
	for _, l := range cfg.Listeners {
		a, err := listen.Parse(l.Address)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// openAll opens all of the addresses or none; stdio: is not among them.
func openAll(ctx context.Context, wanted []listen.Address) (map[listen.Address][]listen.Socket, error) {
	open := map[listen.Address][]listen.Socket{}
	for _, a := range wanted {
		if a.Kind == listen.Stdio {
			continue
		}
		s, err := listen.Open(ctx, a)
		if err != nil {
			closeAll(open)
			return nil, err
		}
		open[a] = s
	}
	return open, nil
}

func closeAll(open map[listen.Address][]listen.Socket) {
	for _, list := range open {
		closeSockets(list)
	}
}

func closeSockets(list []listen.Socket) {
	for _, s := range list {
		s.Close()
	}
}

// listen accepts connections from the sockets of an address. The caller has
// the daemon for itself or holds its mutex.
func (d *Daemon) listen(address listen.Address, sockets []listen.Socket) {
	d.listeners[address] = sockets
	for _, s := range sockets {
		d.running.Go(func() { d.accept(address, s) })
	}
}

// accept hands connections to the newest server until s is closed. If s fails
// for good its address is free to be opened again by a reload.
func (d *Daemon) accept(address listen.Address, s listen.Socket) {
	err := nbd.Accept(d.aborted, s, d.o.Log, func(conn net.Conn) {
		if !d.serve(conn) {
			conn.Close()
		}
	})
	if errors.Is(err, net.ErrClosed) || d.aborted.Err() != nil {
		return
	}
	s.Close()
	d.mu.Lock()
	left := slices.DeleteFunc(slices.Clone(d.listeners[address]), func(other listen.Socket) bool { return other == s })
	if d.listeners[address] = left; len(left) == 0 {
		delete(d.listeners, address)
	}
	d.mu.Unlock()
	d.o.Log.Error("a listener has failed: nobody can connect through it any more", "listener", s.Address.String(), "error", err)
}

// serve serves a connection, unless the server is stopping.
func (d *Daemon) serve(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return false
	}
	server := d.servers[len(d.servers)-1]
	d.serving.Go(func() {
		server.ServeConn(d.aborted, socket.New(conn)) // logs its end itself
	})
	return true
}

// serveStdio serves the connection of a listener at stdio:, which must be the
// only one; the server ends with it.
func (d *Daemon) serveStdio(wanted []listen.Address) error {
	i := slices.IndexFunc(wanted, func(a listen.Address) bool { return a.Kind == listen.Stdio })
	if i < 0 {
		return nil
	}
	if len(wanted) > 1 {
		return errors.New("stdio: must be the only address to listen at")
	}
	if d.o.Stdio == nil {
		return errors.New("there is no connection on standard input")
	}
	conn, err := d.o.Stdio()
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	server := d.servers[0]
	d.serving.Go(func() {
		server.ServeConn(d.aborted, socket.New(conn))
		d.Stop()
	})
	return nil
}

// addresses are those that clients may use, for people. The caller holds the
// mutex.
func (d *Daemon) addresses() []string {
	list := []string{}
	for _, sockets := range d.listeners {
		for _, s := range sockets {
			if text := s.Address.String(); !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	slices.Sort(list)
	return list
}

// Addresses are those at which the server listens, with the ports that the
// system chose.
func (d *Daemon) Addresses() []listen.Address {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := map[listen.Address]bool{}
	for _, sockets := range d.listeners {
		for _, s := range sockets {
			seen[s.Address] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b listen.Address) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
}

// newServer makes the server that a configuration asks for.
func (d *Daemon) newServer(cfg *config.Config) (*nbd.Server, error) {
	s := &nbd.Server{Exports: d.set, Limits: cfg.Limits.Server(), Log: d.o.Log}
	s.Ended = func(c nbd.ConnStatus) { d.ledger.Close(s, c) }
	if err := s.Limits.Validate(); err != nil {
		return nil, err
	}
	switch modeOf(cfg) {
	case config.TLSOff:
		return s, nil
	case config.TLSOptional:
		s.TLS = nbd.TLSOptional
	default:
		s.TLS = nbd.TLSRequired
	}
	files := nbd.TLSFiles{Cert: cfg.TLS.Cert, Key: cfg.TLS.Key, ClientCA: cfg.TLS.ClientCA, Report: d.reportTLS}
	var err error
	s.TLSConfig, err = files.ServerConfig()
	return s, err
}

func (d *Daemon) reportTLS(err error) {
	if err != nil {
		d.o.Log.Error("the certificates have changed and cannot be used; the old ones stay in force", "error", err)
		return
	}
	d.o.Log.Info("the changed certificates are used")
}

func modeOf(cfg *config.Config) string {
	if cfg.TLS == nil {
		return config.TLSOff
	}
	return cfg.TLS.Mode
}
