package config

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

// A Set serves the exports of a configuration and can change to another one
// while it does. It is the resolver of an nbd.Server. The zero value serves
// nothing.
type Set struct {
	// Log receives what prerun and postrun commands, hooks and mirrors have to
	// say.
	// Nil is silent. It must not be changed after the first call.
	Log *slog.Logger

	once    sync.Once
	devices *pool
	logger  *slog.Logger
	current atomic.Pointer[table]

	// applying serialises Apply and Close, and guards what follows.
	applying sync.Mutex
	closed   bool
	leaving  []*served // retired, perhaps not gone
}

var _ nbd.Resolver = (*Set)(nil)

// A table is what is served at one time.
type table struct {
	config *Config
	order  []*served
	byName map[string]*served
}

func (s *Set) init() {
	s.once.Do(func() {
		if s.logger = s.Log; s.logger == nil {
			s.logger = slog.New(slog.DiscardHandler)
		}
		s.devices = newPool(s.logger)
		s.current.CompareAndSwap(nil, &table{config: &Config{}})
	})
}

func (s *Set) pool() *pool {
	s.init()
	return s.devices
}

func (s *Set) log() *slog.Logger {
	s.init()
	return s.logger
}

func (s *Set) table() *table {
	s.init()
	return s.current.Load()
}

// Config is the configuration that is being served.
func (s *Set) Config() *Config { return s.table().config }

// Apply changes what is served to c. It opens what is new first; on an error
// it closes that again, and nothing has changed.
//
// What is the same in both configurations stays as it is: an export whose
// device and whose rules about who may do what are equal keeps its
// connections, and a device that is used in both stays open although its
// export changes. Devices of private constructors, such as a disk in memory,
// are the same if they are the same mention of an equal expression, the first
// or the second and so on, in an export of the same name. Hooks are the same if none of the configuration's files
// has changed.
//
// The exports that are not served any more, or not in the way that their
// connections rely on, are returned for the caller to end their connections.
//
// A file that only one device may use can be in use by the old configuration
// when the new one wants to open it with other arguments. Apply refuses that
// with an error that says so: to close the old device first would lose it if
// the new one failed to open.
func (s *Set) Apply(ctx context.Context, c *Config) ([]*Retired, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.closed {
		return nil, block.ErrClosed
	}
	trees := make(map[string]*Spec)
	for _, x := range c.Exports {
		trees[x.Name] = x.Device
	}
	b := s.pool().newBuild(ctx, trees)
	roots := make([]*instance, len(c.Exports))
	for i, x := range c.Exports {
		root, err := b.get(x.Device)
		if err == nil {
			err = bonded(x, root)
		}
		if err != nil {
			return nil, errors.Join(err, b.done())
		}
		roots[i] = root
	}
	b.settle()
	retired := s.change(c, roots)
	if err := b.done(); err != nil {
		s.log().Error("closing a device failed", "error", err)
	}
	return retired, nil
}

// change makes the table of c the current one.
func (s *Set) change(c *Config, roots []*instance) []*Retired {
	old := s.table()
	next := &table{config: c, byName: make(map[string]*served)}
	kept := make(map[*served]bool)
	for i, x := range c.Exports {
		sv := old.byName[x.Name]
		if sv != nil && sv.fits(roots[i], x) {
			kept[sv] = true
		} else {
			s.devices.mu.Lock()
			roots[i].refs++
			s.devices.mu.Unlock()
			sv = newServed(s, roots[i], x)
		}
		next.order = append(next.order, sv)
		next.byName[x.Name] = sv
	}
	for i, sv := range next.order {
		sv.setRules(c.Exports[i])
	}
	s.current.Store(next)
	return s.retire(old, kept)
}

// retire retires the exports of old that are not kept.
func (s *Set) retire(old *table, kept map[*served]bool) []*Retired {
	var retired []*Retired
	var leaving []*served
	for _, sv := range s.leaving {
		select {
		case <-sv.gone:
		default:
			leaving = append(leaving, sv)
		}
	}
	for _, sv := range old.order {
		if !kept[sv] {
			sv.retire()
			leaving = append(leaving, sv)
			retired = append(retired, &Retired{sv})
		}
	}
	s.leaving = leaving
	return retired
}

// Resolve returns the export that a client asks for, as nbd.Resolver says. A
// request for the default export gets the only one if there is none named "".
// EXPORT@NAME is the view NAME, a snapshot for instance, of an export whose
// device is a block.Viewer, or layers that views are seen through over one. An
// export of just that name comes first. The rules of the export are those of
// its views, and connections to them count as connections to it.
// Who may not use an export gets the same answer as if there were none; that
// there is one is for the log.
func (s *Set) Resolve(ctx context.Context, req *nbd.ExportRequest) (*nbd.Export, error) {
	for {
		sv, view := s.table().find(req.Name)
		if sv == nil {
			return nil, nbd.ErrNotFound
		}
		rules := sv.rules()
		admitted := rules.Allow.Admit(req.Peer)
		switch {
		case rules.RequireTLS && req.Peer.TLS == nil && (admitted || rules.Allow.needCertificate() != ""):
			return nil, nbd.ErrTLSRequired
		case !admitted:
			s.log().Info("access denied", "export", rules.Name, "peer", peerText(req.Peer), "allow", rules.Allow.String())
			return nil, nbd.ErrNotFound
		case req.Probe && view == "":
			return sv.describe(), nil
		case req.Probe:
			return sv.probeView(ctx, view)
		}
		ok, err := sv.enter()
		if err != nil {
			return nil, err
		}
		if !ok {
			continue // replaced since we looked
		}
		x, err := sv.admit(ctx, view, req.Peer)
		if errors.Is(err, nbd.ErrDenied) {
			s.log().Info("access denied", "export", rules.Name, "peer", peerText(req.Peer), "error", err)
		}
		return x, err
	}
}

// List returns the exports that peer may connect to, each followed by its
// views.
func (s *Set) List(ctx context.Context, peer *nbd.Peer) ([]*nbd.Export, error) {
	var list []*nbd.Export
	t := s.table()
	for _, sv := range t.order {
		if !sv.rules().Allow.Admit(peer) {
			continue
		}
		list = append(list, sv.describe())
		for _, x := range sv.listViews(ctx) {
			if t.byName[x.Name] == nil {
				list = append(list, x)
			}
		}
	}
	return list, nil
}

// find returns the export of a name, and which view of it is meant.
func (t *table) find(name string) (sv *served, view string) {
	if sv = t.byName[name]; sv != nil {
		return sv, ""
	}
	if i := strings.LastIndexByte(name, '@'); i >= 0 && i+1 < len(name) {
		name, view = name[:i], name[i+1:]
		sv = t.byName[name]
	}
	if sv == nil && name == "" && len(t.order) == 1 {
		sv = t.order[0]
	}
	return sv, view
}

// Hold keeps the devices of an export open, whatever Apply does, until the
// function that it returns is called. ok is false if there is no export of
// that name. The empty name is that of the only export.
func (s *Set) Hold(name string) (devices iter.Seq2[*Spec, block.Device], release func(), ok bool) {
	for {
		sv, view := s.table().find(name)
		if sv == nil || view != "" {
			return nil, nil, false
		}
		if sv.hold() {
			return devicesOf(sv.root), sync.OnceFunc(sv.unhold), true
		}
	}
}

// ExportStatus says what an export of a Set is and how much it is used.
type ExportStatus struct {
	Export *Export
	Info   block.Info
	// Connections is their number now.
	Connections int
	// Devices are the open devices that the export is made of, each after
	// those under it: for reading their state, not for requests, because
	// the next Apply may close them.
	Devices iter.Seq2[*Spec, block.Device]
}

// Status describes the exports in the order of the configuration.
func (s *Set) Status() []ExportStatus {
	var list []ExportStatus
	for _, sv := range s.table().order {
		list = append(list, ExportStatus{sv.rules(), sv.root.dev.Info(), sv.count(), devicesOf(sv.root)})
	}
	return list
}

// Devices are the open devices of what is being served, each once, as
// ExportStatus.Devices are those of one export.
func (s *Set) Devices() iter.Seq2[*Spec, block.Device] {
	var roots []*instance
	for _, sv := range s.table().order {
		roots = append(roots, sv.root)
	}
	return devicesOf(roots...)
}

// devicesOf returns the devices in the trees of roots, each once and after
// those under it.
func devicesOf(roots ...*instance) iter.Seq2[*Spec, block.Device] {
	return func(yield func(*Spec, block.Device) bool) {
		seen := make(map[*instance]bool)
		var visit func(*instance) bool
		visit = func(inst *instance) bool {
			if seen[inst] {
				return true
			}
			seen[inst] = true
			for _, lower := range inst.below {
				if !visit(lower) {
					return false
				}
			}
			return yield(inst.spec, inst.dev)
		}
		for _, root := range roots {
			if !visit(root) {
				return
			}
		}
	}
}

// Close stops serving and waits until all connections have ended and all
// devices are closed, those of retired exports too. Shut the server down
// before. When ctx ends first it returns the cause.
func (s *Set) Close(ctx context.Context) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.closed {
		return block.ErrClosed
	}
	s.closed = true
	old := s.table()
	s.current.Store(&table{config: &Config{}})
	s.retire(old, nil)
	var errs []error
	for _, sv := range s.leaving {
		errs = append(errs, (&Retired{sv}).Wait(ctx))
	}
	return errors.Join(errs...)
}
