package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/wire"
)

// Grow makes a volume larger, also while it is open: its gateway learns of it, and who opens
// it from then on, by whichever node, sees the new size. A volume cannot be made smaller:
// what is beyond the end would have to be trimmed before.
func (n *Node) Grow(ctx context.Context, volume string, size int64) error {
	if h, ok := n.Latest(ctx).Head(volume); ok && size < h.Name.Record.Size {
		return fmt.Errorf("growing the volume %.200q: to %d bytes, it has %d and cannot be made smaller: %w", volume, size, h.Name.Record.Size, record.ErrInvalid)
	}
	head, err := n.catalog.Resize(ctx, volume, size, 0)
	if err := n.seen(ctx, head.Name.Revision, err); err != nil {
		return err
	}
	n.mu.Lock()
	h := n.holds[head.Line()]
	n.mu.Unlock()
	if h == nil {
		return nil
	}
	if err := h.grow(ctx); err != nil {
		return fmt.Errorf("the volume %.200q has %d bytes, which its gateway does not know yet: %w", volume, size, err)
	}
	return nil
}

// growAgain is when it is tried again to make a volume larger.
const growAgain = 5 * time.Second

// growOpen is the goroutine that makes volumes larger that are open when their records
// say so.
func (n *Node) growOpen() {
	for v := n.state.View(); ; {
		n.mu.Lock()
		var list []*hold
		for _, h := range n.holds {
			if h.outgrown(v) {
				list = append(list, h)
			}
		}
		n.mu.Unlock()
		failed := false
		for _, h := range list {
			if err := h.grow(n.ctx); err != nil && n.ctx.Err() == nil {
				failed = true
				n.o.Log.Warn("a volume cannot be used as far as it is large", "family", h.line.Family, "line", h.line.Line, "error", err)
			}
		}
		if failed {
			if !n.pause(n.ctx, growAgain) {
				return
			}
			v = n.state.View()
			continue
		}
		var err error
		if v, err = n.state.Next(n.ctx, v); err != nil {
			return
		}
	}
}

// outgrown reports whether the volume is larger than what it is served as.
func (h *hold) outgrown(v *record.View) bool {
	a := h.active.Load()
	if a == nil || a.Err() != nil {
		return false
	}
	name, ok := h.name(v)
	return ok && name.Size > a.Info().Size
}

// name is the name of the volume. It is seldom another one than the last time.
func (h *hold) name(v *record.View) (record.Name, bool) {
	if last := h.called.Load(); last != nil {
		if e, ok := v.Names.Get(*last); ok && (record.Line{Family: e.Record.Family, Line: e.Record.Line}) == h.line {
			return e.Record, true
		}
	}
	called, name, ok := nameOf(v, h.line)
	if ok {
		h.called.Store(&called)
	}
	return name, ok
}

// grow makes what serves the volume as large as it is.
func (h *hold) grow(ctx context.Context) error {
	if err := h.mu.LockFor(ctx); err != nil {
		return err
	}
	defer h.mu.Unlock()
	n, v := h.n, h.n.state.View()
	if !h.outgrown(v) {
		return nil
	}
	a := h.active.Load()
	name, _ := h.name(v)
	f, ok := v.Families.Get(h.line.Family)
	if !ok {
		return record.ErrNotFound
	}
	if a.own == nil {
		return a.served.(*far).grow(ctx, name.Size, v.Revision)
	}
	if err := n.ensure(ctx, v, f.Volume.Record, name.Size); err != nil {
		return err
	}
	if err := a.own.Grow(ctx, name.Size); err != nil {
		return err
	}
	// What was revived before has nothing of what will be written.
	if v = n.state.View(); h.revivals(v, h.counted) == h.revived {
		h.revived, h.counted = h.revivals(v, name.Size), name.Size
	}
	return nil
}

// grow lets the other node make the volume as large as is agreed at a revision.
func (f *far) grow(ctx context.Context, size int64, at coord.Revision) error {
	if err := f.do(ctx, wire.Call{Op: opGrow}, 0, int64(at), 0); err != nil {
		return err
	}
	is := *f.info.Load()
	is.Size = size
	f.info.Store(&is)
	return nil
}

// serveGrow answers opGrow.
func (h *hold) serveGrow(ctx context.Context, at coord.Revision) error {
	if _, err := h.n.state.Wait(ctx, at); err != nil {
		return err
	}
	err := h.grow(ctx)
	if err == nil && h.outgrown(h.n.state.View()) {
		err = errors.New("the volume is being attached anew")
	}
	return err
}
