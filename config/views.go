package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

// A viewTable has the views of an export that are in use, by their IDs, so
// that all who use one use one device. The zero value is empty.
type viewTable struct {
	mu   sync.Mutex
	open map[string]*openView
}

// An openView is a view with the layers of the export over it.
type openView struct {
	id    string
	stack []block.Device // from the view upwards
	users int
}

// viewer returns the Viewer that the export's device is or is made of, and the
// layers over it that views are seen through, the lowest first.
func (s *served) viewer() (v block.Viewer, layers []*Spec, ok bool) {
	for inst := s.root; ; inst = inst.below[0] {
		if v, ok := inst.dev.(block.Viewer); ok {
			slices.Reverse(layers)
			return v, layers, true
		}
		if !inst.spec.cons.OnViews || inst.spec.cons.Kind != Layer || len(inst.below) != 1 {
			return nil, nil, false
		}
		layers = append(layers, inst.spec)
	}
}

// listViews describes the views for a list. Those who ask get what there is:
// an error is for the log.
func (s *served) listViews(ctx context.Context) []*nbd.Export {
	v, _, ok := s.viewer()
	if !ok || !s.hold() {
		return nil
	}
	defer s.unhold()
	names, err := v.Views(ctx)
	if err != nil {
		s.set.log().Warn("cannot list the snapshots of an export", "export", s.rules().Name, "error", err)
		return nil
	}
	var list []*nbd.Export
	for _, name := range names {
		x := s.describe()
		if x.Name += "@" + name; len(x.Name) <= maxName {
			list = append(list, x)
		}
	}
	return list
}

// probeView is what a client may know of a view. The view is open until
// Release.
func (s *served) probeView(ctx context.Context, name string) (*nbd.Export, error) {
	if !s.hold() {
		return nil, nbd.ErrNotFound // replaced since we looked
	}
	x, closeView, err := s.describeView(ctx, name, true)
	if err != nil {
		s.unhold()
		return nil, err
	}
	x.Release = sync.OnceFunc(func() {
		closeView()
		s.unhold()
	})
	return x, nil
}

// describeView is describe for a view, which is open until closeView is
// called.
func (s *served) describeView(ctx context.Context, name string, probe bool) (x *nbd.Export, closeView func(), err error) {
	viewer, layers, ok := s.viewer()
	if !ok {
		return nil, nil, nbd.ErrNotFound
	}
	v, err := s.openView(ctx, viewer, layers, name, probe)
	if errors.Is(err, block.ErrNoView) {
		return nil, nil, nbd.ErrNotFound
	}
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot %q of export %q: %w", name, s.rules().Name, err)
	}
	x = s.describe()
	x.Name += "@" + name
	x.Device = v.stack[len(v.stack)-1]
	return x, func() { s.closeView(v) }, nil
}

// openView opens a view, or uses one that is open.
func (s *served) openView(ctx context.Context, viewer block.Viewer, layers []*Spec, name string, probe bool) (*openView, error) {
	t := &s.views
	t.mu.Lock()
	defer t.mu.Unlock()
	view, err := viewer.View(ctx, name, probe)
	if err != nil {
		return nil, err
	}
	if v := t.open[view.ID]; v != nil {
		v.users++
		return v, view.Close()
	}
	v := &openView{id: view.ID, stack: []block.Device{view.Device}, users: 1}
	for _, layer := range layers {
		top := v.stack[len(v.stack)-1]
		dev, err := layer.cons.open(ctx, &opening{
			spec: layer, devs: []block.Device{block.Keep(top)}, values: slices.Clone(layer.values), log: s.set.log(),
		})
		if err != nil {
			return nil, errors.Join(err, v.close())
		}
		v.stack = append(v.stack, dev)
	}
	if t.open == nil {
		t.open = map[string]*openView{}
	}
	t.open[v.id] = v
	return v, nil
}

func (s *served) closeView(v *openView) {
	t := &s.views
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.users--; v.users > 0 {
		return
	}
	delete(t.open, v.id)
	if err := v.close(); err != nil {
		s.set.log().Error("closing a snapshot failed", "export", s.rules().Name, "error", err)
	}
}

func (v *openView) close() error {
	var err error
	for _, dev := range slices.Backward(v.stack) {
		err = errors.Join(err, dev.Close())
	}
	return err
}
