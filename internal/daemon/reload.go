package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/nbd"
)

// A Change says what a reload did.
type Change struct {
	// Added, Changed and Removed are names of exports. The connections to
	// those that changed or were removed answer what they have received and
	// end; clients that reconnect find the new state.
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Removed []string `json:"removed"`
	// Opened and Closed are addresses. Connections through an address that
	// was closed go on.
	Opened []string `json:"opened"`
	Closed []string `json:"closed"`
	// Server is set when the limits or the use of TLS changed: they are
	// those of the new configuration for new connections.
	Server bool `json:"server"`
}

// errNoFile is the answer to a reload of a server whose exports were arguments
// of the command line.
var errNoFile = errors.New("there is no configuration file to read again: the server was started without one (-c FILE)")

// Reload loads the configuration again and applies the difference. On an
// error nothing has changed.
func (d *Daemon) Reload(ctx context.Context) (*Change, error) {
	d.reload.Lock()
	defer d.reload.Unlock()
	d.mu.Lock()
	stopping := d.stopping
	d.mu.Unlock()
	if stopping {
		return nil, ErrStopping
	}
	if len(d.config.Files) == 0 { // only Reload changes it
		d.o.Log.Warn("cannot reload", "error", errNoFile)
		return nil, errNoFile
	}
	d.o.Notify(reloading())
	defer d.o.Notify("READY=1")
	change, err := d.apply(ctx)
	if err != nil {
		d.o.Log.Error("reload failed; nothing has changed", "error", err)
		return nil, err
	}
	d.o.Log.Info("reloaded", "added", change.Added, "changed", change.Changed, "removed", change.Removed,
		"opened", change.Opened, "closed", change.Closed)
	return change, nil
}

// apply does what can fail first, and undoes it if something does.
func (d *Daemon) apply(ctx context.Context) (*Change, error) {
	cfg, err := d.o.Load(ctx)
	if err != nil {
		return nil, err
	}
	old := d.config // only Reload changes it
	if cfg.Control != old.Control {
		return nil, errors.New("the control socket cannot move while the server runs; restart it")
	}
	server, err := d.newServer(cfg)
	if err != nil {
		return nil, err
	}
	wanted, err := addressesOf(cfg)
	if err != nil {
		return nil, err
	}
	if had, err := addressesOf(old); err == nil && hasStdio(had) != hasStdio(wanted) {
		return nil, errors.New("stdio: cannot be added or removed while the server runs")
	}
	var missing []listen.Address
	d.mu.Lock()
	for _, a := range wanted {
		if _, ok := d.listeners[a]; !ok {
			missing = append(missing, a)
		}
	}
	d.mu.Unlock()
	sockets, err := openAll(ctx, missing)
	if err != nil {
		return nil, err
	}
	retired, err := d.set.Apply(ctx, cfg)
	if err != nil {
		closeAll(sockets)
		return nil, err
	}
	change := difference(old, cfg, retired)
	d.switchTo(cfg, server, wanted, sockets, change)
	d.drain(retired)
	return change, nil
}

func hasStdio(list []listen.Address) bool {
	return slices.ContainsFunc(list, func(a listen.Address) bool { return a.Kind == listen.Stdio })
}

// switchTo makes what has been opened take the place of what there was.
func (d *Daemon) switchTo(cfg *config.Config, server *nbd.Server, wanted []listen.Address, sockets map[listen.Address][]listen.Socket, change *Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change.Server = !sameServer(d.config, cfg)
	if change.Server {
		// The old ones have their connections still.
		d.servers = append(d.servers, server)
	}
	d.config = cfg
	d.reloads++
	for a, list := range d.listeners {
		if !slices.Contains(wanted, a) {
			closeSockets(list)
			delete(d.listeners, a)
			change.Closed = append(change.Closed, a.String())
		}
	}
	for a, list := range sockets {
		d.listen(a, list)
		change.Opened = append(change.Opened, a.String())
	}
	slices.Sort(change.Closed)
	slices.Sort(change.Opened)
}

// sameServer reports whether the server of one configuration does for the
// other. Certificates that changed in their files need no new server.
func sameServer(a, b *config.Config) bool {
	if a.Limits != b.Limits || modeOf(a) != modeOf(b) {
		return false
	}
	return a.TLS == nil || b.TLS == nil ||
		a.TLS.Cert == b.TLS.Cert && a.TLS.Key == b.TLS.Key && a.TLS.ClientCA == b.TLS.ClientCA
}

// drain ends the connections to exports that are not served any more. It does
// not wait for that.
func (d *Daemon) drain(retired []*config.Retired) {
	d.mu.Lock()
	servers := slices.Clone(d.servers)
	d.mu.Unlock()
	for _, r := range retired {
		for _, s := range servers {
			d.running.Go(func() { r.Drain(d.aborted, s) }) // the set logs errors
		}
	}
}

// difference names the exports that came, changed and went.
func difference(old, cfg *config.Config, retired []*config.Retired) *Change {
	c := &Change{Added: []string{}, Changed: []string{}, Removed: []string{}, Opened: []string{}, Closed: []string{}}
	has := func(cfg *config.Config, name string) bool {
		return slices.ContainsFunc(cfg.Exports, func(x *config.Export) bool { return x.Name == name })
	}
	for _, x := range cfg.Exports {
		if !has(old, x.Name) {
			c.Added = append(c.Added, x.Name)
		}
	}
	for _, x := range old.Exports {
		if !has(cfg, x.Name) {
			c.Removed = append(c.Removed, x.Name)
		}
	}
	for _, r := range retired {
		if has(cfg, r.Name()) && !slices.Contains(c.Changed, r.Name()) {
			c.Changed = append(c.Changed, r.Name())
		}
	}
	return c
}
