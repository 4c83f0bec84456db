package config

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"go.starlark.net/starlark"

	"github.com/strata-storage/strata/block"
)

// A pool holds open devices and counts who uses them. Equal specs are one
// device; those of private constructors are one if they are the same place of
// the same export. A device is closed when its last user has gone, before the
// devices under it.
type pool struct {
	log *slog.Logger

	mu     sync.Mutex
	open   map[*instance]struct{}
	shared map[string]*instance
	// private has the devices of private constructors by their places.
	private map[string][]*instance
	lastID  int
}

// An instance is an open device in a pool.
type instance struct {
	id    int
	key   string
	spec  *Spec
	dev   block.Device
	below []*instance

	// Guarded by the pool's mutex.
	refs   int
	places map[string]bool
	closed chan struct{} // closed when dev has been
}

func newPool(log *slog.Logger) *pool {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &pool{
		log: log, open: make(map[*instance]struct{}),
		shared: make(map[string]*instance), private: make(map[string][]*instance),
	}
}

// move gives a private device other places. The caller holds the mutex.
func (p *pool) move(inst *instance, places map[string]bool) {
	for at := range inst.places {
		list := slices.DeleteFunc(p.private[at], func(other *instance) bool { return other == inst })
		if p.private[at] = list; len(list) == 0 {
			delete(p.private, at)
		}
	}
	inst.places = places
	for at := range places {
		p.private[at] = append(p.private[at], inst)
	}
}

// release gives up one reference and closes the device with the last one.
func (p *pool) release(inst *instance) error {
	p.mu.Lock()
	inst.refs--
	last := inst.refs == 0
	p.mu.Unlock()
	if !last {
		return nil
	}
	err := inst.dev.Close()
	if err != nil {
		err = fmt.Errorf("close %s: %w", inst.spec, err)
	}
	p.mu.Lock()
	delete(p.open, inst)
	if p.shared[inst.key] == inst {
		delete(p.shared, inst.key)
	}
	p.move(inst, nil)
	p.mu.Unlock()
	close(inst.closed)
	return errors.Join(err, p.releaseAll(inst.below))
}

// releaseAll releases in the opposite order.
func (p *pool) releaseAll(list []*instance) error {
	var err error
	for _, inst := range slices.Backward(list) {
		err = errors.Join(err, p.release(inst))
	}
	return err
}

// A build opens the devices of one configuration. It holds a reference to
// each of them until it is released.
type build struct {
	*pool
	ctx    context.Context
	places map[*Spec]map[string]bool
	made   map[*Spec]*instance
	used   map[*instance]bool
	held   []*instance
}

// newBuild prepares to open trees, each known by the name of its export.
func (p *pool) newBuild(ctx context.Context, trees map[string]*Spec) *build {
	b := &build{
		pool: p, ctx: ctx,
		places: make(map[*Spec]map[string]bool),
		made:   make(map[*Spec]*instance),
		used:   make(map[*instance]bool),
	}
	for name, s := range trees {
		b.note(name, s, make(map[*Spec]bool), make(map[string]int))
	}
	return b
}

// note finds the places of the private devices in one export: the first
// mention of an expression, the second of an equal one, and so on. Layers
// that come or go around them do not change that.
func (b *build) note(export string, s *Spec, seen map[*Spec]bool, mentions map[string]int) {
	if seen[s] {
		return
	}
	seen[s] = true
	if s.cons.Private {
		text := s.String()
		if b.places[s] == nil {
			b.places[s] = make(map[string]bool)
		}
		b.places[s][fmt.Sprintf("%d %s", mentions[text], export)] = true
		mentions[text]++
	}
	for _, d := range s.Devices() {
		b.note(export, d, seen, mentions)
	}
}

// done releases what the build holds.
func (b *build) done() error { return b.releaseAll(b.held) }

// get returns the device of s, opened if need be. The reference is the
// build's.
func (b *build) get(s *Spec) (*instance, error) {
	if inst := b.made[s]; inst != nil {
		return inst, nil
	}
	var undo []func()
	below, err := b.getBelow(s, &undo)
	var inst *instance
	if err == nil {
		inst, err = b.find(s, s.key(below))
	}
	if inst == nil && err == nil {
		inst, err = b.create(s, below)
	}
	if err != nil {
		for _, u := range slices.Backward(undo) {
			u()
		}
		return nil, err
	}
	b.made[s], b.used[inst] = inst, true
	b.held = append(b.held, inst)
	return inst, nil
}

// getBelow returns the devices that s is made of, and how to undo what was done
// to open them.
func (b *build) getBelow(s *Spec, undo *[]func()) (below []*instance, err error) {
	for _, d := range s.Devices() {
		u, err := b.prepare(s, below)
		if err != nil {
			return nil, err
		}
		*undo = append(*undo, u)
		inst, err := b.get(d)
		if err != nil {
			return nil, err
		}
		below = append(below, inst)
	}
	return below, nil
}

// prepare prepares to open the next of the devices that s is made of.
func (b *build) prepare(s *Spec, below []*instance) (undo func(), err error) {
	if s.cons.prepare == nil {
		return func() {}, nil
	}
	var open []block.Device
	for _, inst := range below {
		open = append(open, inst.dev)
	}
	undo, err = s.cons.prepare(b.ctx, s, open)
	if err != nil {
		return nil, &Error{Pos: s.pos, Err: b.explain(s, err)}
	}
	return undo, nil
}

// find takes a reference to an open device that is what s and its place in
// the configuration ask for, if there is one.
func (b *build) find(s *Spec, key string) (*instance, error) {
	for {
		b.mu.Lock()
		inst := b.shared[key]
		if s.cons.Private {
			inst = b.findPrivate(s, key)
		}
		if inst == nil || inst.refs > 0 {
			if inst != nil {
				inst.refs++
			}
			b.mu.Unlock()
			return inst, nil
		}
		b.mu.Unlock()
		select { // it is being closed: open it again after that
		case <-inst.closed:
		case <-b.ctx.Done():
			return nil, &Error{Pos: s.pos, Err: fmt.Errorf("%s: %w", s.cons.Name, context.Cause(b.ctx))}
		}
	}
}

// findPrivate looks for a device at one of the places where s is. The caller
// holds the mutex.
func (b *build) findPrivate(s *Spec, key string) *instance {
	var best *instance
	for at := range b.places[s] {
		for _, inst := range b.private[at] {
			if inst.key != key || inst.refs == 0 || b.used[inst] {
				continue
			}
			if best == nil || inst.id < best.id {
				best = inst
			}
		}
	}
	return best
}

// create opens the device.
func (b *build) create(s *Spec, below []*instance) (*instance, error) {
	if err := context.Cause(b.ctx); err != nil {
		return nil, &Error{Pos: s.pos, Err: fmt.Errorf("%s: %w", s.cons.Name, err)}
	}
	op := &opening{spec: s, values: slices.Clone(s.values), log: b.log}
	devs := make([]block.Device, len(below))
	for i, inst := range below {
		devs[i] = block.Keep(inst.dev)
	}
	op.devs, devs = devs[:len(s.devs):len(s.devs)], devs[len(s.devs):]
	for i, v := range op.values {
		switch v := v.(type) {
		case *Spec:
			op.values[i], devs = devs[0], devs[1:]
		case []*Spec:
			op.values[i], devs = devs[:len(v):len(v)], devs[len(v):]
		}
	}
	dev, err := s.cons.open(b.ctx, op)
	if err != nil {
		return nil, &Error{Pos: s.pos, Err: b.explain(s, err)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastID++
	inst := &instance{
		id: b.lastID, key: s.key(below), spec: s, dev: dev, below: below,
		refs: 1, closed: make(chan struct{}),
	}
	for _, lower := range below {
		lower.refs++
	}
	b.open[inst] = struct{}{}
	if s.cons.Private {
		b.move(inst, b.places[s])
	} else {
		b.shared[inst.key] = inst
	}
	return inst, nil
}

// settle records the places of the new configuration.
func (b *build) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s, inst := range b.made {
		if s.cons.Private {
			b.move(inst, b.places[s])
		}
	}
}

// explain makes an error of opening s say by what it was caused: by a device
// that is open and has locked a file that s wants to use, or else by the
// constructor, unless the error names that or what it was to open.
func (b *build) explain(s *Spec, err error) error {
	if rival := b.rival(s, err); rival != nil {
		return rival
	}
	text := err.Error()
	if strings.HasPrefix(text, s.cons.Name+": ") {
		return err
	}
	for i := range s.cons.Params {
		if v, ok := s.values[i].(string); ok && v != "" && s.cons.Params[i].Required && strings.Contains(text, v) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", s.cons.Name, err)
}

// rival returns the error that names the device that has locked a file of s,
// nil if there is none.
func (b *build) rival(s *Spec, err error) error {
	if !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EAGAIN) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for inst := range b.open {
		if path := commonPath(s, inst.spec); path != "" {
			return &rivalError{fmt.Sprintf("%s is in use by %s, see %s: write the same expression in both places to share the device, or, to change it, remove it with one reload and add it with the next",
				path, shorten(inst.spec.String()), inst.spec.pos), err}
		}
	}
	return nil
}

// A rivalError says more than the error that it stands for.
type rivalError struct {
	text string
	err  error
}

func (e *rivalError) Error() string { return e.text }
func (e *rivalError) Unwrap() error { return e.err }

// commonPath returns a path that is an argument of both.
func commonPath(a, b *Spec) string {
	for _, x := range a.paths() {
		if slices.Contains(b.paths(), x) {
			return x
		}
	}
	return ""
}

// paths are the paths of files among the arguments, as absolute ones.
func (s *Spec) paths() []string {
	var list []string
	for i, p := range s.cons.Params {
		if p.Unit != UnitPath {
			continue
		}
		switch v := s.values[i].(type) {
		case string:
			list = append(list, absolute(v))
		case []string:
			for _, path := range v {
				list = append(list, absolute(path))
			}
		}
	}
	return list
}

// key is equal for specs that ask for the same device: the constructor, the
// arguments and the devices under it.
func (s *Spec) key(below []*instance) string {
	var b strings.Builder
	b.WriteString(s.cons.Name)
	for _, inst := range below {
		fmt.Fprintf(&b, " %d", inst.id)
	}
	for i := range s.cons.Params {
		p, v := &s.cons.Params[i], s.values[i]
		if v == nil || p.isDefault(v) {
			continue
		}
		b.WriteString(" " + p.Name + "=")
		switch v := v.(type) {
		case *Spec:
			b.WriteString("1")
		case []*Spec:
			fmt.Fprint(&b, len(v))
		case starlark.Callable:
			// A function is what its text and all that it may refer to say.
			fmt.Fprintf(&b, "%s@%s", v, *s.origin)
			if f, ok := v.(*starlark.Function); ok {
				fmt.Fprintf(&b, "@%s", f.Position())
			}
		case string:
			if p.Unit == UnitPath {
				v = absolute(v)
			}
			fmt.Fprintf(&b, "%q", v)
		default:
			b.WriteString(formatValue(p, v))
		}
	}
	return b.String()
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Open opens the device that s describes, with everything under it. Closing
// the result closes all of it.
func (s *Spec) Open(ctx context.Context) (block.Device, error) {
	p := newPool(nil)
	b := p.newBuild(ctx, map[string]*Spec{"": s})
	inst, err := b.get(s)
	if err != nil {
		return nil, errors.Join(err, b.done())
	}
	return &opened{Pass: block.Pass{Device: inst.dev}, close: b.done}, nil
}

// OpenAll is Open for the devices one by one: each after those under it.
func (s *Spec) OpenAll(ctx context.Context) (devices iter.Seq2[*Spec, block.Device], closeAll func() error, err error) {
	b := newPool(nil).newBuild(ctx, map[string]*Spec{"": s})
	inst, err := b.get(s)
	if err != nil {
		return nil, nil, errors.Join(err, b.done())
	}
	return devicesOf(inst), b.done, nil
}

// opened closes a whole tree of devices.
type opened struct {
	block.Pass
	close func() error
	once  sync.Once
}

// Same is for block.NoterOf.
func (o *opened) Same() block.Device { return o.Device }

// Close closes the device and then those under it.
func (o *opened) Close() error {
	err := error(block.ErrClosed)
	o.once.Do(func() { err = o.close() })
	return err
}
