package snapshot

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/strata-storage/strata/block"
)

// ChangedSince begins the names of metadata contexts of the origin and of its
// snapshots: ChangedSince+NAME has the status Changed where the device may
// differ from the snapshot NAME, see Diff.
const ChangedSince = "strata:changed-since:"

// maxContexts bounds how many contexts a device names: those of the newest
// snapshots. All can be asked for.
const maxContexts = 1000

// origin is the origin as a device, which has the snapshots as views.
type origin struct{ view }

var _ block.Viewer = (*origin)(nil)

// Origin returns the origin as a device that owns the Set: closing it closes
// the Set. It is a block.Viewer of the snapshots, which are read-only unless
// Options.Writable.
func (s *Set) Origin() block.Device {
	return &origin{view{set: s, id: Origin, info: s.info, closed: s.Close}}
}

// SetOf returns the Set of an origin that Set.Origin returned, and nil for
// every other device.
func SetOf(dev block.Device) *Set {
	if o, ok := dev.(*origin); ok {
		return o.set
	}
	return nil
}

// Views returns the names of the snapshots in the order of their creation.
func (o *origin) Views(ctx context.Context) ([]string, error) {
	if err := o.set.Refresh(ctx); err != nil {
		return nil, err
	}
	t := &o.set.names
	t.RLock()
	defer t.RUnlock()
	var list []string
	for _, r := range t.inOrder() {
		list = append(list, r.Name)
	}
	return list, nil
}

// View opens a snapshot.
func (o *origin) View(ctx context.Context, name string, probe bool) (block.View, error) {
	s := o.set
	dev, err := s.Open(ctx, name, OpenOptions{Write: s.o.Writable && !s.o.ReadOnly, Create: s.o.OpenCreates && !probe})
	if err != nil {
		return block.View{}, err
	}
	return block.View{Device: dev, ID: strconv.FormatUint(uint64(dev.(*view).id), 10)}, nil
}

// Refresh makes the Set know what others who share the lock have done until
// now.
func (s *Set) Refresh(ctx context.Context) error {
	return s.shared(ctx, func() error { return nil })
}

// contexts are the metadata contexts of every view.
func (s *Set) contexts() []string {
	t := &s.names
	if list := t.contexts.Load(); list != nil {
		return *list
	}
	t.Lock()
	defer t.Unlock()
	records := t.inOrder()
	records = records[max(len(records)-maxContexts, 0):]
	list := make([]string, 0, len(records))
	for _, r := range records {
		list = append(list, ChangedSince+r.Name)
	}
	t.contexts.Store(&list)
	return list
}

// changed is Extents in a context of ChangedSince.
func (v *view) changed(ctx context.Context, since string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := v.info.CheckRange(off, n); err != nil {
		return block.FailExtents(err)
	}
	id, err := v.set.idOf(since)
	if since == "" || err != nil {
		return block.FailExtents(fmt.Errorf("changes since %q: %w", since, ErrNoSnapshot))
	}
	return v.set.diff(ctx, &v.gate, id, v.id, off, n)
}
