package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/bond"
	"github.com/strata-storage/strata/internal/spell"
	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/kinds" // what users can choose from
)

// defaultKind is the kind of stores that are made without naming one.
const defaultKind = "ranged"

type snapshotsOptions struct {
	_           struct{}          `doc:"A disk with snapshots that share what they have in common." long:"The origin is the disk, the store keeps what it and its snapshots do not have in common. An export of it has every snapshot as NAME@SNAPSHOT, also through the layers that say so; strata snapshot takes, lists, compares, deletes them and rolls back while the disk is in use. A store device that begins with 64 KiB of zeros is made a store, one that holds a store is used as that, anything else is refused."`
	Store       block.Device      `name:"store" arg:"1" required:"true" doc:"The device of the store. A file that is given by its path and does not exist is made, sparse."`
	Size        int64             `name:"size" unit:"bytes" doc:"The size of the file of a store that is made, twice that of the origin and 64 MiB if it is not given. A store that exists must have it."`
	Existing    bool              `name:"existing" doc:"Refuse a store that does not exist or is zeros, instead of making one. An origin that is a file notes which store it has, and is refused without that one anyway; other origins should have this after the first start."`
	Kind        string            `name:"kind" doc:"The kind of store, see below; that of the store on the device, or ranged for a new one, if it is not given."`
	Args        map[string]string `name:"args" doc:"Arguments of the kind, see below."`
	Chunk       int64             `name:"chunk" unit:"bytes" doc:"The unit of sharing, a power of two from 512 to 1M; that of the store, or 4K for a new one, if it is not given."`
	Policy      string            `name:"policy" enum:"staged|copyout|redirect" default:"staged" doc:"Where the first write to what a snapshot shares goes: to the store and home in the background, in place after the old data were copied, or to the store for good."`
	WhenFull    string            `name:"when_full" enum:"preserve|drop|invalidate" default:"preserve" doc:"What a full store does: fail writes, drop the snapshot of the lowest priority that is not in use, or drop all, also those in use."`
	Low         int64             `name:"low" unit:"bytes" doc:"The free space below which the log warns; a tenth of the store if it is not given."`
	Writable    bool              `name:"writable" doc:"Lets clients write to the snapshots."`
	OpenCreates bool              `name:"open_creates" doc:"A client that connects to a snapshot that does not exist takes it."`
	Lock        string            `name:"lock" unit:"lock" default:"none" doc:"The lock that all servers of the same origin and store share. With one, devices that are given by their paths are opened with shared=True."`
	ReadOnly    bool              `name:"read_only" doc:"Change nothing, not even the store."`
}

// snapshotsName is the name of the layer.
const snapshotsName = "snapshots"

// addSnapshots adds the layer snapshots.
func addSnapshots(r *Registry) {
	AddLayer(r, snapshotsName, func(block.Device, snapshotsOptions) (block.Device, error) {
		return nil, errors.New("not called")
	}, Over("origin"), func(c *Constructor) {
		c.check, c.complete, c.prepare, c.open = checkSnapshots, completeSnapshots, prepareStore, openSnapshots
	})
}

// snapshotsOf are the options in a spec but for the device.
func snapshotsOf(s *Spec) snapshotsOptions {
	var o snapshotsOptions
	s.read(&o)
	return o
}

// checkSnapshots looks for a kind, and arguments of it, that there are not.
func checkSnapshots(s *Spec) error {
	o := snapshotsOf(s)
	var names []string
	for _, k := range snapshot.Kinds() {
		if k.Name == cmp.Or(o.Kind, defaultKind) {
			return checkKind(k, &o)
		}
		names = append(names, k.Name)
	}
	return fmt.Errorf("there is no kind of store %q, only %s%s", shorten(o.Kind), spell.List(names), spell.DidYouMean(o.Kind, names))
}

func checkKind(k snapshot.Kind, o *snapshotsOptions) error {
	if o.Kind == "" {
		return nil // that of the store decides
	}
	var known []string
	for _, a := range k.Args {
		known = append(known, a.Name)
	}
	for name := range o.Args {
		switch {
		case len(known) == 0:
			return fmt.Errorf("argument %q: stores of the kind %s have no arguments", shorten(name), k.Name)
		case !slices.Contains(known, name):
			return fmt.Errorf("argument %q is none of the kind %s, which has %s%s", shorten(name), k.Name, spell.List(known), spell.DidYouMean(name, known))
		}
	}
	if o.Writable && !k.Caps.Writable {
		return fmt.Errorf("snapshots in a store of the kind %s cannot be written", k.Name)
	}
	return nil
}

// completeSnapshots makes devices that are given by their paths shared, if
// there is a lock that takes care of who uses them.
func completeSnapshots(s *Spec) *Spec {
	if where := snapshotsOf(s).Lock; where == "" || where == "none" {
		return s
	}
	shared := func(d *Spec) *Spec {
		if d.byPath {
			return d.with("shared")
		}
		return d
	}
	c := *s
	c.devs, c.values = []*Spec{shared(s.devs[0])}, slices.Clone(s.values)
	for i, v := range c.values {
		if d, ok := v.(*Spec); ok {
			c.values[i] = shared(d)
		}
	}
	return &c
}

// prepareStore makes the file of the store, if it is one that is missing.
func prepareStore(_ context.Context, s *Spec, open []block.Device) (undo func(), err error) {
	o := snapshotsOf(s)
	var store *Spec
	for _, v := range s.values {
		if d, ok := v.(*Spec); ok && d.byPath {
			store = d
		}
	}
	if len(open) != 1 || store == nil || o.ReadOnly || o.Existing {
		return func() {}, nil
	}
	path := store.paths()[0]
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		mark, err := bond.Of(open[0])
		if mark != nil {
			err = fmt.Errorf("%s does not exist, and the origin belongs to %s: %w", path, mark.Name(), snapshot.ErrNotTheStore)
		}
		if err != nil && !errors.Is(err, block.ErrNotSupported) {
			return nil, explainStore(s, err)
		}
	}
	const spare = 64 << 20
	size := o.Size
	if size == 0 {
		size = (2*open[0].Info().Size + spare) &^ (1<<20 - 1)
	}
	return makeSparse(path, size)
}

func openSnapshots(ctx context.Context, op *opening) (block.Device, error) {
	var o snapshotsOptions
	op.read(&o)
	origin, store := op.devs[0], o.Store
	if n := store.Info().Size; o.Size != 0 && n != o.Size {
		return nil, fmt.Errorf("the store has %d bytes, not %d as the argument size says: %w", n, o.Size, block.ErrInvalid)
	}
	kind, err := snapshot.Identify(ctx, store)
	switch {
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	case kind != "" && o.Kind != "" && kind != o.Kind:
		return nil, fmt.Errorf("the store is of the kind %s, not %s: %w", kind, o.Kind, snapshot.ErrMismatch)
	}
	so := snapshot.Options{
		Kind: cmp.Or(kind, o.Kind, defaultKind), Args: o.Args, Chunk: o.Chunk, Format: formatOf(&o),
		ReadOnly: o.ReadOnly, Low: o.Low, Writable: o.Writable, OpenCreates: o.OpenCreates,
		Notify: func(e snapshot.Event) { logEvent(op.log, op.spec, e) },
	}
	if so.Policy, err = snapshot.ParsePolicy(cmp.Or(o.Policy, snapshot.Staged.String())); err != nil {
		return nil, err
	}
	if so.WhenFull, err = snapshot.ParseWhenFull(cmp.Or(o.WhenFull, snapshot.Preserve.String())); err != nil {
		return nil, err
	}
	if so.Lock, err = lock.Open(ctx, cmp.Or(o.Lock, "none")); err != nil {
		return nil, err
	}
	set, err := snapshot.New(origin, store, so)
	if err != nil {
		if so.Lock != nil {
			so.Lock.Close()
		}
		return nil, err
	}
	if err := set.Resume(ctx); err != nil {
		set.Close() // the devices are not its own
		return nil, explainStore(op.spec, err)
	}
	return set.Origin(), nil
}

// formatOf says when a store is made.
func formatOf(o *snapshotsOptions) snapshot.Format {
	if o.Existing {
		return snapshot.Never
	}
	return snapshot.IfBlank
}

// explainStore tells what to do about a device that is no store, or not the one
// that it should be.
func explainStore(s *Spec, err error) error {
	existing := snapshotsOf(s).Existing
	switch {
	case errors.Is(err, snapshot.ErrNotTheStore):
		origin := "ORIGIN"
		if paths := s.devs[0].paths(); len(paths) == 1 {
			origin = paths[0]
		}
		return fmt.Errorf("store: %w; without the right one the newest data of the disk and all its snapshots may be missing. Put it back; or, to use the disk as it is, run: strata snapshot forget %s", err, origin)
	case errors.Is(err, snapshot.ErrNoStore) && existing:
		return fmt.Errorf("store: %w, and existing=True makes none", err)
	case errors.Is(err, snapshot.ErrNoStore):
		return fmt.Errorf("store: %w, and its first 64 KiB are not zeros, as they must be for a store to be made", err)
	}
	return fmt.Errorf("store: %w", err)
}

// logEvent logs what the operator wants to know.
func logEvent(log *slog.Logger, s *Spec, e snapshot.Event) {
	level := slog.LevelInfo
	if k := e.Kind; e.Err != nil || k == snapshot.LowSpace || k == snapshot.Full {
		level = slog.LevelWarn
	}
	args := []any{"device", s.String()}
	if e.Kind == snapshot.Unmarked {
		args = append(args, "hint", "give existing=True from now on, so that a store that is missing is not made anew")
	}
	if e.Name != "" {
		args = append(args, "snapshot", e.Name)
	}
	if e.Err != nil {
		args = append(args, "error", e.Err)
	}
	log.Log(context.Background(), level, "snapshots: "+e.Kind.String(), args...)
}

// Snapshots returns the snapshots that one of the devices has.
func Snapshots(devices iter.Seq2[*Spec, block.Device]) (*snapshot.Set, error) {
	var found *snapshot.Set
	for _, dev := range devices {
		switch s := snapshot.SetOf(dev); {
		case s == nil:
		case found != nil:
			return nil, errors.New("more than one of its devices has snapshots: export that one as well, and name it")
		default:
			found = s
		}
	}
	if found == nil {
		return nil, errors.New("none of its devices has snapshots: they are made by snapshots(origin, store)")
	}
	return found, nil
}
