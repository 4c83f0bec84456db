package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// An action is one step of a history.
type action struct {
	// do is one of the names below.
	do string
	// view is the name of a snapshot, or empty for the origin.
	view string
	// name is another one.
	name string
	op   blocktest.Op
}

func (a action) String() string {
	switch a.do {
	case "io":
		return fmt.Sprintf("io %q: %v", a.view, a.op)
	case "create", "rename":
		return fmt.Sprintf("%s %q %q", a.do, a.view, a.name)
	case "delete", "rollback":
		return fmt.Sprintf("%s %q", a.do, a.view)
	}
	return a.do
}

type history []action

func (h history) String() string {
	var b strings.Builder
	for _, a := range h {
		fmt.Fprintln(&b, "\t"+a.String())
	}
	return b.String()
}

// generate returns a random history of n actions.
func generate(seed uint64, c Config, caps snapshot.Caps, n int) history {
	rng := rand.New(rand.NewPCG(seed, 77))
	var h history
	limit := min(max(caps.MaxSnapshots, 0), 6)
	if limit == 0 {
		limit = 6
	}
	var names []string
	view := func(origin int) string {
		if len(names) == 0 || rng.IntN(10) < origin {
			return ""
		}
		return names[rng.IntN(len(names))]
	}
	for i := 0; len(h) < n; i++ {
		switch k := rng.IntN(100); {
		case k < 12 && len(names) < limit:
			a := action{do: "create", name: fmt.Sprintf("s%d", i)}
			if caps.Clones && rng.IntN(4) == 0 {
				a.view = view(0)
			}
			h, names = append(h, a), append(names, a.name)
		case k < 18 && len(names) > 0:
			j := rng.IntN(len(names))
			h = append(h, action{do: "delete", view: names[j]})
			names = slices.Delete(names, j, j+1)
		case k < 20 && len(names) > 0 && caps.Values:
			j := rng.IntN(len(names))
			name := fmt.Sprintf("r%d", i)
			h = append(h, action{do: "rename", view: names[j], name: name})
			names[j] = name
		case k < 24 && len(names) > 0 && caps.Home && caps.Values:
			h = append(h, action{do: "rollback", view: view(0)})
		case k < 34:
			h = append(h, action{do: "work"})
		case k < 36:
			h = append(h, action{do: "suspend"})
		case k < 38 && caps.Persistent && caps.Values:
			h = append(h, action{do: "reopen"})
		default:
			a := action{do: "io", op: randomOp(rng, c)}
			if caps.Writable || a.op.Kind == blocktest.Flush {
				a.view = view(7)
			}
			h = append(h, a)
		}
	}
	return h
}

func randomOp(rng *rand.Rand, c Config) blocktest.Op {
	unit := max(int64(c.MinBlock), sectorSize)
	op := blocktest.Op{Kind: blocktest.Write, Seed: rng.Uint64N(1 << 30)}
	switch rng.IntN(12) {
	case 0:
		return blocktest.Op{Kind: blocktest.Flush}
	case 1:
		op.Kind, op.Seed = blocktest.Zero, 0
		if rng.IntN(3) == 0 {
			op.Flags |= block.NoHole
		}
	case 2:
		op.Kind, op.Seed = blocktest.Trim, 0
	}
	size := c.Origin / unit
	if rng.IntN(2) == 0 {
		// Whole chunks.
		k := max(c.Chunk/unit, 1)
		op.Off = rng.Int64N(size/k) * k
		op.Len = min((1+rng.Int64N(4))*k, size-op.Off)
	} else {
		op.Off = rng.Int64N(size)
		op.Len = min(1+rng.Int64N(12), size-op.Off)
	}
	op.Off, op.Len = op.Off*unit, op.Len*unit
	if rng.IntN(8) == 0 {
		op.Flags |= block.FUA
	}
	return op
}

// A player carries out a history and knows what must come of it.
type player struct {
	lab  *lab
	set  *snapshot.Set
	open func() (*snapshot.Set, error)
	// views has the models; the origin is "".
	views map[string]disk
	devs  map[string]block.Device
	// maybe are snapshots that exist or do not.
	maybe map[string]disk
}

func newPlayer(l *lab, s *snapshot.Set) *player {
	return &player{lab: l, set: s, views: map[string]disk{"": newDisk(l.c.Origin)},
		devs: map[string]block.Device{"": s.Origin()}, maybe: map[string]disk{}}
}

// play carries out the history until something fails.
func (p *player) play(ctx context.Context, h history) error {
	for i, a := range h {
		if err := p.act(ctx, a); err != nil {
			return fmt.Errorf("action %d, %v: %w", i+1, a, err)
		}
	}
	return nil
}

// act returns errors of the set, and what is wrong with it.
func (p *player) act(ctx context.Context, a action) (err error) {
	model, ok := p.views[a.view]
	if !ok {
		return nil // a shortened history
	}
	switch a.do {
	case "io":
		err = p.io(ctx, a, model)
	case "create":
		err = p.create(ctx, a, model)
	case "delete":
		p.drop(a.view)
		err = p.set.Delete(ctx, p.lab.c.known(ctx, p.set, a.view))
		if errors.Is(err, snapshot.ErrBusy) {
			return nil
		}
		delete(p.views, a.view)
		if err != nil {
			p.maybe[a.view] = model
		}
	case "rename":
		p.drop(a.view)
		if err = p.set.Rename(ctx, a.view, a.name); err == nil {
			p.views[a.name] = model
			delete(p.views, a.view)
		} else {
			delete(p.views, a.view)
			p.maybe[a.view], p.maybe[a.name] = model, model
		}
	case "rollback":
		err = p.set.Rollback(ctx, a.view)
		switch {
		case errors.Is(err, snapshot.ErrBusy):
			return nil
		case err == nil:
			p.views[""] = model.snapshot()
		default:
			p.views[""].merge(model)
		}
	case "work":
		_, err = p.set.Work(ctx)
	case "suspend":
		err = errors.Join(p.set.Suspend(ctx), p.set.Resume(ctx))
		if err == nil {
			p.flushed()
		}
	case "reopen":
		err = p.reopen()
	}
	return err
}

func (p *player) create(ctx context.Context, a action, model disk) error {
	err := p.set.Create(ctx, a.name, snapshot.CreateOptions{Of: a.view})
	switch {
	case errors.Is(err, snapshot.ErrBusy):
		return nil
	case err != nil:
		// It may exist, and hold what the origin has after a crash.
		p.maybe[a.name] = slices.Clone(model)
	default:
		p.views[a.name] = model.snapshot()
		delete(p.maybe, a.name)
	}
	return err
}

func (p *player) flushed() {
	for _, d := range p.views {
		d.flush()
	}
}

func (p *player) reopen() error {
	for name := range p.devs {
		if name != "" {
			p.drop(name)
		}
	}
	err := p.set.Close()
	if err == nil {
		p.flushed()
	}
	set, oerr := p.open()
	if oerr != nil {
		return errors.Join(err, oerr)
	}
	p.set, p.devs = set, map[string]block.Device{"": set.Origin()}
	return err
}

func (p *player) drop(view string) {
	if d := p.devs[view]; d != nil && view != "" {
		d.Close()
		delete(p.devs, view)
	}
}

func (p *player) dev(ctx context.Context, view string, write bool) (block.Device, error) {
	if d := p.devs[view]; d != nil {
		return d, nil
	}
	d, err := p.set.Open(ctx, p.lab.c.known(ctx, p.set, view), snapshot.OpenOptions{Write: write})
	if err == nil {
		p.devs[view] = d
	}
	return d, err
}

// io does an operation of a view and notes its effect.
func (p *player) io(ctx context.Context, a action, model disk) error {
	dev, err := p.dev(ctx, a.view, true)
	if errors.Is(err, block.ErrReadOnly) {
		return nil
	}
	if err != nil {
		return err
	}
	switch op := a.op; op.Kind {
	case blocktest.Flush:
		if err = dev.Flush(ctx); err == nil {
			model.flush()
		}
		return err
	case blocktest.Write:
		data := make([]byte, op.Len)
		blocktest.Fill(data, op.Off, op.Seed)
		err = dev.WriteAt(ctx, data, op.Off, op.Flags)
	case blocktest.Zero:
		err = dev.Zero(ctx, op.Off, op.Len, op.Flags)
	case blocktest.Trim:
		err = dev.Trim(ctx, op.Off, op.Len, op.Flags)
	}
	if errors.Is(err, snapshot.ErrBusy) {
		return nil // being rolled back to
	}
	model.change(a.op, err != nil)
	return err
}

// verify compares all views and the list of snapshots.
func (p *player) verify(ctx context.Context) error {
	if err := p.resolve(ctx); err != nil {
		return err
	}
	for name, model := range p.views {
		had := p.devs[name] != nil
		dev, err := p.dev(ctx, name, false)
		if err != nil {
			return fmt.Errorf("opening %q: %w: %w", name, err, blocktest.ErrBroken)
		}
		if err := model.verify(ctx, fmt.Sprintf("%q", name), dev); err != nil {
			return err
		}
		if !had {
			p.drop(name)
		}
	}
	all := p.set.List()
	for _, x := range all {
		if _, ok := p.views[x.Name]; !ok && !p.lab.c.nameless {
			return fmt.Errorf("there is a snapshot %q: %w", x.Name, blocktest.ErrBroken)
		}
	}
	if n := len(p.views) - 1; len(all) != n {
		return fmt.Errorf("there are %d snapshots, expected %d: %w", len(all), n, blocktest.ErrBroken)
	}
	return nil
}

// known returns the name by which a set knows a snapshot. A store that keeps no
// names has only one.
func (c Config) known(ctx context.Context, s *snapshot.Set, name string) string {
	if !c.nameless || name == "" {
		return name
	}
	// Those who share the store know what others did when they have the lock.
	if _, err := s.Usage(ctx); err != nil {
		return name
	}
	if all := s.List(); len(all) == 1 {
		name = all[0].Name
	}
	return name
}

// settle verifies, and takes what it finds for what must be there.
func (p *player) settle(ctx context.Context) error {
	if err := p.verify(ctx); err != nil {
		return err
	}
	for name, model := range p.views {
		dev, err := p.dev(ctx, name, false)
		if err != nil {
			return err
		}
		if err := model.settle(ctx, dev); err != nil {
			return err
		}
		p.drop(name)
	}
	return nil
}

// resolve finds out which of the doubtful snapshots exist.
func (p *player) resolve(ctx context.Context) error {
	all := p.set.List()
	for name, d := range p.maybe {
		is := func(x snapshot.Snapshot) bool { return x.Name == name || p.lab.c.nameless && len(p.views) == 1 }
		if slices.ContainsFunc(all, is) {
			p.views[name] = d
		}
	}
	clear(p.maybe)
	return nil
}

// powerCut: what was not durable may be lost.
func (p *player) powerCut() {
	for _, d := range p.views {
		d.powerCut()
	}
	for _, d := range p.maybe {
		d.powerCut()
	}
	p.devs = map[string]block.Device{}
}

// shrink makes a history shorter as long as fails still returns an error.
func shrink(h history, fails func(history) error) history {
	for n := len(h) / 2; n >= 1; {
		shorter := false
		for i := 0; i+n <= len(h); {
			if cut := slices.Delete(slices.Clone(h), i, i+n); fails(cut) != nil {
				h, shorter = cut, true
			} else {
				i += n
			}
		}
		if !shorter || n > 1 {
			n /= 2
		}
	}
	return h
}
